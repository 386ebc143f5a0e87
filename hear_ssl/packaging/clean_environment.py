"""Create a clean environment in seconds: a new virtual environment with torch and its requirements, and nothing else.

Torch is not downloaded again: links to the installed torch and its requirements, found by their metadata, are added to the path of the
new environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from hear_ssl.addresses import redacted

# The environment variables that the code of a wheel gets. All others are removed, because a token may have any name.
PASSED = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TMP|TEMP|USER|LOGNAME|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|SYSTEMROOT"
    r"|CUDA_[A-Z_]+|NVIDIA_[A-Z_]+|HIP_[A-Z_]+"
    r"|[A-Z]+_NUM_THREADS|KMP_[A-Z_]+|OMP_[A-Z_]+|MALLOC_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|(HTTPS?|ALL|NO)_PROXY",
    re.IGNORECASE,
)
TO_DOWNLOAD = re.compile(r"HOME|XDG_[A-Z_]+|PIP_[A-Z_]+|UV_[A-Z_]+|NETRC|HTTPS?_PROXY|ALL_PROXY", re.IGNORECASE)  # only for pip


def without_secrets(home: Path, **given: str) -> dict[str, str]:
    """Return environment variables for foreign code: those in PASSED, proxies without passwords, `home` as home folder, and `given`.

    With another home folder, the code finds no ~/.netrc, ~/.aws or hub token.
    """
    passed = {name: _without_password(value) for name, value in os.environ.items() if PASSED.fullmatch(name)}
    return {**passed, "HOME": str(home), "PYTHONNOUSERSITE": "1", **given}


def _without_password(value: str) -> str:
    return (
        redacted(value) if "://" in value else value.rpartition("@")[2] if ":" in value.partition("@")[0] else value
    )  # user:password@proxy


def _for_pip() -> dict[str, str]:
    """Return environment variables for downloads by pip: its settings, which may contain the password of an index, and no other secret."""
    return {name: value for name, value in os.environ.items() if PASSED.fullmatch(name) or TO_DOWNLOAD.fullmatch(name)}


def requirement_closure(name: str) -> list[str]:
    """Return the installed distributions that `name` requires, including itself, from their metadata."""
    wanted: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    done: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        current, extras = wanted.pop()
        if (current, extras) in done:
            continue
        try:
            requires = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue  # a requirement for another platform or Python
        done.add((current, extras))
        for requirement in requires:
            of_extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
            if of_extra is None or normalised(of_extra[1]) in extras:
                asked = re.match(r"[^\s;<>=!~(\[]+\s*\[([^\]]*)\]", requirement)  # cuda-toolkit[cublas,cudart]
                more = frozenset(normalised(one.strip()) for one in asked[1].split(",")) if asked else frozenset[str]()
                wanted.append((normalised(re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]), more))
    seen = {current for current, _ in done}
    return sorted(seen)


def normalised(name: str) -> str:
    """Return a distribution's name, normalised by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def link_layer(distributions: list[str], layer: Path) -> None:
    """Create links to the top-level files and folders of installed distributions in `layer`."""
    layer.mkdir(parents=True)
    for name in distributions:
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in sorted(tops):
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (layer / top).exists():
                (layer / top).symlink_to(target)


def make_environment(
    folder: Path, fresh_torch: str | None = None, interpreter: Path | None = None, layers: tuple[str, ...] = ("torch",)
) -> Path:
    """Create a virtual environment with torch only, or with the installed distributions `layers`, and return its Python.

    fresh_torch: a requirement such as torch==2.4.1 to download instead of linking the installed torch.
    interpreter: the Python to use instead of the running one, only with fresh_torch.
    Raises ValueError when torch cannot be installed.
    """
    if interpreter:
        command = [str(interpreter), "-m", "venv", "--without-pip", str(folder / "env")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{interpreter} makes no virtual environment: {' '.join(done.stderr.split())[:200]}")
    else:
        venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    if fresh_torch:
        pip(python, ["install", "--no-compile", fresh_torch], f"cannot install {fresh_torch}")
        return python
    layer = folder / "layer"
    link_layer(sorted({name for wanted in layers for name in requirement_closure(wanted)}), layer)
    site = next((folder / "env" / "lib").glob("python3*/site-packages"))
    (site / "torch_layer.pth").write_text(f"{layer}\n")
    return python


def pip(python: Path, arguments: list[str], failure: str, home: Path | None = None) -> None:
    """Run this environment's pip for another Python. home: nothing is downloaded, and the code that pip runs gets no secrets.

    Raises ValueError with pip's last line when it fails.
    """
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet", *arguments]
    environment = without_secrets(home, PIP_NO_INDEX="1") if home else _for_pip()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        raise ValueError(f"{failure}: {lines[0][:200] if lines else 'pip gave no reason'}")
