"""Modules whose environments `hear-ssl foreign` can make, as environments.json lists them, and where an environment lies."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hear_ssl.machine import user_cache

PINS = Path(__file__).with_name("environments.json")
COMPLETE = "complete.json"  # in the folder of an environment that is whole: what was installed, and the interpreter it is made of


@cache
def known_modules() -> dict[str, dict[str, Any]]:
    """Return what environments.json has of each module: what it is, the packages to install for each Python, first choice first."""
    listed: dict[str, dict[str, Any]] = json.loads(PINS.read_bytes())
    return listed


def is_module_name(name: str) -> bool:
    """Return whether a text is the name of a module, such as hearbaseline.naive."""
    return all(part.isidentifier() for part in name.split("."))


def default_folder(name: str) -> Path:
    """Return where the environment of a module is made: in the user's cache."""
    return user_cache() / "foreign" / name


def built_python(name: str) -> str:
    """Return the interpreter of the whole environment that a known module has in the user's cache, '' without one."""
    folder = default_folder(name) if name in known_modules() else None
    return python_in(folder) if folder and (folder / COMPLETE).is_file() else ""


def python_in(folder: Path) -> str:
    """Return the interpreter of the environment in a folder that `hear-ssl foreign` makes."""
    return str(folder / "env" / "bin" / "python")
