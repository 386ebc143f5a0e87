"""A user's own classes, each in a Python file, named in a config as path/to/file.py:Class.

The file is imported as a separate module, from a path that a user wrote in a config or on the command line, or that a checkpoint recorded
together with the file's SHA-256. A file that differs from the recorded one is never imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>[^:/\\]*)")


@dataclass(frozen=True)
class PartFile:
    """A user's class and the file that defines it."""

    path: Path
    kind: type[Any]
    source: bytes
    sha256: str


def is_reference(key: str) -> bool:
    """Return whether a name in a config refers to a file, such as path/to/file.py:Class."""
    return ".py:" in key or key.endswith(".py") or "/" in key


def absolute(key: str, folders: Iterable[Path]) -> str:
    """Return a reference with the absolute path of its file; a relative path is searched in `folders` in this order.

    Raises ValueError when it is not of the form path/to/file.py:Class, or none of the folders has the file.
    """
    match = REFERENCE.fullmatch(key)
    if match is None or not match["name"].isidentifier():
        raise ValueError(f"{key!r} is not of the form path/to/file.py:Class, such as ./my_net.py:MyNet")
    given = Path(match["path"]).expanduser()
    if given.is_absolute():
        return f"{given}:{match['name']}"
    places = [folder / given for folder in folders]
    for place in places:
        if place.is_file():
            return f"{place.resolve()}:{match['name']}"
    looked = " or ".join(sorted({str(place.parent.resolve()) for place in places}))
    raise ValueError(f"there is no file {given.name} in {looked}, where {key!r} refers to it; correct the path")


def load_part(key: str, base: type[Any], sha256: str = "") -> PartFile:
    """Import the file of an absolute reference and return its class, a subclass of `base`.

    Raises ValueError when the file is missing, cannot be imported, has no such class or one of another kind, or does not have the hash
    `sha256` if that is given.
    """
    path, name = Path(key.rpartition(":")[0]), key.rpartition(":")[2]
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path}, the file of {name}, cannot be read ({error.strerror}); put it back, or run in a folder with a copy of it"
        ) from None
    found = hashlib.sha256(source).hexdigest()
    if sha256 and found != sha256:
        raise ValueError(
            f"{path} has changed since the training: its SHA-256 was {sha256[:12]} and is {found[:12]}; restore the file of {name}"
        )
    module = _module(path, source, found)
    kind = getattr(module, name, None)
    classes = [item for item, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__]
    if not isinstance(kind, type):
        raise ValueError(f"{path} has no class {name}; it defines {', '.join(classes) or 'none'}")
    if not issubclass(kind, base) or kind is base:
        raise ValueError(f"{name} in {path} is not a subclass of {base.__module__}.{base.__name__}; derive it from that class")
    return PartFile(path, kind, source, found)


def _module(path: Path, source: bytes, sha256: str) -> ModuleType:
    name = f"hear_ssl_part_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{sha256[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # because dataclasses look up their module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except Exception as error:  # the user's code may raise any error
        del sys.modules[name]
        raise ValueError(f"{path}{_line_in(error, path)} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _line_in(error: BaseException, path: Path) -> str:
    """Return ', line N' for the last line of the file in an error's traceback."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def moved(key: str) -> str:
    """Return a reference to a file of the same name in the working folder if the file of an absolute reference is missing."""
    path, _, name = key.rpartition(":")
    here = Path.cwd() / Path(path).name
    return f"{here}:{name}" if not Path(path).is_file() and here.is_file() else key
