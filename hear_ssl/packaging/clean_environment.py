"""A clean environment in seconds: a fresh virtual environment that sees torch and what torch needs, and nothing else.

Torch is not downloaded again: a layer of links to the running environment's torch and its requirements, found through
their metadata, is added to the new environment's path.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path


def requirement_closure(name: str) -> list[str]:
    """Return the installed distributions that `name` needs, itself included, by following their metadata."""
    wanted, seen = [name], []
    while wanted:
        current = wanted.pop()
        if current in seen:
            continue
        try:
            requires = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue  # a requirement for another platform or Python
        seen.append(current)
        for requirement in requires:
            if "extra ==" not in requirement.replace("'", '"'):
                wanted.append(normalised(re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]))
    return sorted(seen)


def normalised(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def link_layer(distributions: list[str], layer: Path) -> None:
    """Fill `layer` with links to the top-level files and folders of installed distributions."""
    layer.mkdir(parents=True)
    for name in distributions:
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in sorted(tops):
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (layer / top).exists():
                (layer / top).symlink_to(target)


def make_environment(folder: Path, fresh_torch: str | None = None, interpreter: Path | None = None) -> Path:
    """Make a virtual environment with torch alone and return its Python.

    fresh_torch: a requirement such as torch==2.4.1 to download instead of linking the torch that runs here.
    interpreter: the Python to make it of instead of the running one, with fresh_torch only.
    Raises ValueError when that cannot be installed.
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
    link_layer(requirement_closure("torch"), layer)
    site = next((folder / "env" / "lib").glob("python3*/site-packages"))
    (site / "torch_layer.pth").write_text(f"{layer}\n")
    return python


def pip(python: Path, arguments: list[str], failure: str) -> None:
    """Run this environment's pip for another Python. Raises ValueError with pip's last line when it fails."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
        raise ValueError(f"{failure}: {lines[0][:200] if lines else 'pip gave no reason'}")
