"""Test a wheel on every Python of this machine, with the oldest torch that it supports and with the newest.

python -m hear_ssl.packaging.matrix dist/hear_mymodel-0.1.0-py3-none-any.whl [--weights FILE]

To be run by hand, not in CI: each pair is a new virtual environment with a downloaded torch, 1 to 6 GB, removed after the measurement. The
rules are those of hear-ssl verify without the 20 minutes of audio and the official validator, which depend on neither version.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import one_line, run_main
from hear_ssl.machine import user_path
from hear_ssl.packaging.clean_environment import make_environment, pip
from hear_ssl.packaging.verify import measured_rows, module_name

OLDEST_PYTHON, OLDEST_TORCH = (3, 8), (2, 0)  # as in the wheel's metadata
FALLBACKS = 3  # number of newest versions to try when pip cannot install the newest one
PYENV = ".pyenv/versions/*/bin/python"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every pair, print a line for each, and return 0 when all rules hold everywhere, otherwise 1."""
    given = parse_arguments(arguments)
    wheel, weights = Path(given.wheel).resolve(), Path(given.weights).resolve() if given.weights else None
    for path in (wheel, weights):
        if path and not path.is_file():
            raise ValueError(f"{path} does not exist; give what hear-ssl package wrote")
    os.environ["PIP_NO_CACHE_DIR"] = "1"  # a cache would keep a dozen versions of torch on the disk
    pythons = find_pythons()
    print(f"{'Python':8} {'torch':10} {'seconds':>7}  rules", flush=True)
    broken = 0
    for version, python in sorted(pythons.items()):
        try:
            torches = torch_versions(python)
        except ValueError as error:
            torches, broken = [], broken + 1
            print(f"{dotted(version):8} {'-':10} {'-':>7}  {one_line(error)}", flush=True)
        for choices in (torches[:1], torches[1:][: -FALLBACKS - 1 : -1]):
            broken += bool(choices) and not one_of(choices, wheel, weights, version, python)
    return 1 if broken else 0


def one_of(choices: list[tuple[int, ...]], wheel: Path, weights: Path | None, version: tuple[int, ...], python: Path) -> bool:
    """Measure with the first of several torch versions that pip can install, print a line for each, and return whether all rules hold.

    An index may list a version of torch without its requirements.
    """
    for torch in choices:
        start = time.monotonic()
        verdict, held = measure(wheel, weights, python, dotted(torch))
        print(f"{dotted(version):8} {dotted(torch):10} {time.monotonic() - start:7.0f}  {one_line(verdict)}", flush=True)
        if held is not None:
            return held
    return False


def find_pythons() -> dict[tuple[int, ...], Path]:
    """Return one interpreter for each minor version from 3.8 on, from pyenv and from python3.X on the path."""
    candidates = [*sorted(Path.home().glob(PYENV)), *(Path(found) for minor in range(8, 30) if (found := shutil.which(f"python3.{minor}")))]
    pythons: dict[tuple[int, ...], Path] = {}
    for candidate in candidates:
        command = [str(candidate), "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True)
        version = numbers(done.stdout.strip()) if done.returncode == 0 else ()
        if version >= OLDEST_PYTHON:
            pythons.setdefault(version, candidate)
    return pythons


def numbers(version: str) -> tuple[int, ...]:
    """Return 2.11.0 as (2, 11, 0)."""
    return tuple(int(part) for part in version.split("."))


def dotted(version: tuple[int, ...]) -> str:
    """Return (2, 11, 0) as 2.11.0."""
    return ".".join(map(str, version))


def torch_versions(python: Path) -> list[tuple[int, ...]]:
    """Return the releases of torch, ascending, that pip finds for a Python and the wheel supports. Raises ValueError for none."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "index", "versions", "torch"]
    done = subprocess.run(command, capture_output=True, text=True)
    listed = next((line for line in done.stdout.splitlines() if line.startswith("Available versions:")), "")
    found = sorted({numbers(version) for version in re.findall(r"(?<=[ ,])\d+\.\d+\.\d+(?=,|$)", listed)})
    claimed = [version for version in found if version >= OLDEST_TORCH]
    if not claimed:
        raise ValueError(f"pip finds no torch >= {dotted(OLDEST_TORCH)} for it")
    return claimed


def measure(wheel: Path, weights: Path | None, python: Path, torch: str) -> tuple[str, bool | None]:
    """Install torch and the wheel in a new environment of `python`; return a description and whether all rules hold.

    None: this version of torch could not be installed.
    """
    with tempfile.TemporaryDirectory(prefix="hear-matrix-") as folder:
        scratch = Path(folder)
        try:
            inside = make_environment(scratch, f"torch=={torch}", python)
        except ValueError as error:
            return str(error), None
        try:
            pip(inside, ["install", "--no-index", str(wheel)], f"{wheel.name} does not install", scratch)
        except ValueError as error:
            return str(error), False
        rows = measured_rows(inside, module_name(wheel), weights, scratch, [], memory="none")
    broken = [f"{row.name} ({row.measured[:80]})" for row in rows if row.passed is False]
    return f"{len(rows) - len(broken)} of {len(rows)} hold" + (f"; broken: {'; '.join(broken)}" if broken else ""), not broken


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="matrix.py",
        description="Install a wheel on every Python found here with the oldest torch it claims and the newest that pip finds, and "
        "measure the rules of the HEAR API. Exit status 1 when one is broken anywhere.",
    )
    parser.add_argument("wheel", type=user_path, metavar="WHEEL", help="a wheel that hear-ssl package wrote")
    parser.add_argument("--weights", type=user_path, metavar="FILE", help="weights file to load; without it the package finds its own")
    return parser.parse_args(given)


if __name__ == "__main__":
    run_main(main)
