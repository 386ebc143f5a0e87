"""Modules whose environments `hear-ssl foreign` can create, listed in environments.json, and the folders of the environments."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hear_ssl.machine import user_cache

PINS = Path(__file__).with_name("environments.json")
COMPLETE = "complete.json"  # in the folder of a complete environment: what was installed, and its interpreter


@cache
def known_modules() -> dict[str, dict[str, Any]]:
    """Return the entries of environments.json: descriptions of modules, and packages by Python version, the preferred first."""
    listed: dict[str, dict[str, Any]] = json.loads(PINS.read_bytes())
    return listed


def is_module_name(name: str) -> bool:
    """Return whether a text is the name of a module, such as hearbaseline.naive."""
    return all(part.isidentifier() for part in name.split("."))


def default_folder(name: str) -> Path:
    """Return the default folder for the environment of a module, in the user's cache."""
    return user_cache() / "foreign" / name


def built_python(name: str) -> str:
    """Return the interpreter of a known module's complete environment in the user's cache, or ''."""
    folder = default_folder(name) if name in known_modules() else None
    return python_in(folder) if folder and (folder / COMPLETE).is_file() else ""


def python_in(folder: Path) -> str:
    """Return the interpreter of the environment that `hear-ssl foreign` creates in a folder."""
    return str(folder / "env" / "bin" / "python")
