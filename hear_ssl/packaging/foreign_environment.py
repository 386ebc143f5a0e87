"""Create the environment of a module with known version pins, so that `hear-ssl evaluate` and `verify` can run it there.

A folder contains the virtual environment `env`, links to the installed torch (`layer`) unless another torch is downloaded, and a record
of the finished steps: an interrupted command resumes, and a finished one only checks the environment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hear_ssl.errors import nearest
from hear_ssl.evaluation.foreign.known import COMPLETE, known_modules, python_in
from hear_ssl.evaluation.foreign.model import load_foreign
from hear_ssl.evaluation.foreign.process import checked_python
from hear_ssl.files import atomic_write, read_json
from hear_ssl.folder_lock import folder_lock
from hear_ssl.packaging.clean_environment import make_environment, pip
from hear_ssl.packaging.matrix import find_pythons, numbers
from hear_ssl.progress import report

STARTED, BASE = "started.json", "base.json"  # in the folder: the packages to install; a mark that Python and torch are installed
BUSY = "wait for it to end, or give another --to"
WITHOUT_LINKS = "torch>=2.0,<2.12"  # for another Python than the running one


@dataclass(frozen=True)
class Recipe:
    """The content of an environment. torch: a requirement to download, '' for `links` to the installed torch, with versions `linked`."""

    module: str
    interpreter: str
    python: str
    torch: str
    links: list[str]
    linked: list[str]
    install: list[str]
    install_alone: list[str]


def recipe_of(module: str, interpreter: str = "", torch: str = "") -> Recipe:
    """Return the recipe for a module's environment, with the given interpreter or the first suitable one; torch: a requirement.

    Raises ValueError when the module is unknown, or there is no suitable Python.
    """
    modules = known_modules()
    if module not in modules:
        raise ValueError(f"there are no known pins for {module!r}{nearest(module, list(modules))}; give one of {', '.join(modules)}")
    known = modules[module]
    chosen, version = choose_python(module, known["pythons"], interpreter)
    linked = not torch and "torch" not in known and chosen == sys.executable
    wanted = "" if linked else torch or known.get("torch", WITHOUT_LINKS)
    links = ["torch", *known.get("links", [])] if linked else []
    fresh = [] if linked else known.get("links", [])
    versions = [f"{name} {metadata.version(name)}" for name in links]
    return Recipe(module, chosen, version, wanted, links, versions, [*fresh, *known["pythons"][version]], known["install_alone"])


def choose_python(module: str, pins: dict[str, Any], interpreter: str) -> tuple[str, str]:
    """Return an interpreter and its version such as 3.11: the given one, otherwise the running one, otherwise another on this machine.

    Raises ValueError when there are no pins for its version, or for any version found.
    """
    if interpreter:
        path = checked_python(interpreter, "--interpreter")
        done = subprocess.run([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
        version = done.stdout.strip()
        if version not in pins:
            raise ValueError(f"{module} has pins for Python {', '.join(pins)}; {path} is {version or 'no Python'}")
        return path, version
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version in pins:
        return sys.executable, version
    found = find_pythons()
    for wanted in pins:
        if numbers(wanted) in found:
            return str(found[numbers(wanted)]), wanted
    raise ValueError(f"{module} needs Python {' or '.join(pins)}, and there is none here; install one, or name it with --interpreter")


def make(recipe: Recipe, folder: Path) -> str:
    """Create an environment in a folder, or resume, check that the module loads there, and return the interpreter.

    Raises ValueError when a package cannot be installed, the module does not load, or the folder has other content.
    """
    with folder_lock(folder, BUSY):
        python = python_in(folder)
        if _read(folder / COMPLETE) != asdict(recipe) or not Path(python).is_file():
            _install(recipe, folder)
        try:
            process = load_foreign(recipe.module, "", python, folder / "env").process
        except ValueError:
            (folder / COMPLETE).unlink(missing_ok=True)
            raise
        if process:
            process.close()
        atomic_write(folder / COMPLETE, json.dumps(asdict(recipe), indent=1))
    return python


def _install(recipe: Recipe, folder: Path) -> None:
    """Install what is missing of a recipe, after removing the results of another recipe from the folder."""
    (folder / COMPLETE).unlink(missing_ok=True)
    if _read(folder / STARTED) != asdict(recipe):
        others = {path.name for path in folder.iterdir()} - {"env", "layer", STARTED, BASE, COMPLETE, ".lock"}
        if others or (any(folder.iterdir()) and not (folder / STARTED).is_file()):
            raise ValueError(f"{folder} has other things than an environment of hear-ssl foreign; give an empty folder with --to")
        (folder / BASE).unlink(missing_ok=True)
        atomic_write(folder / STARTED, json.dumps(asdict(recipe), indent=1))
    if not (folder / BASE).is_file():
        for name in ("env", "layer"):
            shutil.rmtree(folder / name, ignore_errors=True)
        what = f"downloading {recipe.torch}" if recipe.torch else f"with links to {' and '.join(recipe.linked)} of this one"
        report(f"making an environment of Python {recipe.python} in {folder}, {what} ...", aside=True)
        interpreter = None if recipe.interpreter == sys.executable else Path(recipe.interpreter)
        make_environment(folder, recipe.torch or None, interpreter, tuple(recipe.links))
        atomic_write(folder / BASE, "{}")
    for alone, packages in ((False, recipe.install), (True, recipe.install_alone)):
        if packages:
            report(f"installing {' '.join(packages)} ...", aside=True)
            arguments = ["install", *(["--no-deps"] if alone else []), *packages]
            pip(Path(python_in(folder)), arguments, f"cannot install {' '.join(packages)}")


def _read(file: Path) -> Any:
    """Return the content of a JSON file, or None when it is missing or damaged."""
    try:
        return read_json(file)
    except (OSError, ValueError):
        return None
