"""An export on the disk: the source tree, and its wheel next to it."""

from __future__ import annotations

import os
from pathlib import Path

from hear_ssl.files import atomic_write, check_writable, remove_parts
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.wheel import build_wheel, wheel_name

WRITING_SECONDS = 60.0  # to wait for another package that is written to the same folder


def check_place(out: Path, name: str) -> None:
    """Raise ValueError when out/name holds anything but an exported source tree, or `out` cannot be written."""
    folder = out / name
    if os.path.lexists(folder) and not (folder / name / "manifest.json").is_file():
        raise ValueError(f"{folder} exists and is no exported source tree; give another --out")
    check_writable(folder / "pyproject.toml")


def write_export(folder: Path, version: str, files: dict[str, bytes], python: str) -> Path:
    """Write a source tree into `folder`, named as its package, and its wheel next to it; return the wheel's path.

    Each file appears whole. What else lies in the folder, a .git or files of the user's, stays; only in the package
    itself nothing else does, and what killed processes left unfinished is removed. Raises OSError when the disk is full or may
    not be written.
    """
    name = folder.name
    for place in (folder.parent, folder):
        remove_parts(place)
    metadata = texts.metadata(name, version, files["README.md"].decode(), python)
    package = {path: content for path, content in files.items() if path.startswith(f"{name}/")}
    wheel = build_wheel(name, version, package, metadata, texts.licenses())
    for path in sorted(files, key=lambda path: (path != f"{name}/manifest.json", path)):  # by its manifest a tree is known as one
        atomic_write(folder / path, files[path])
    for file in sorted((folder / name).rglob("*"), reverse=True):
        if file.is_dir() and not file.is_symlink():
            remove_empty(file)
        elif file.relative_to(folder).as_posix() not in files:
            file.unlink()
    atomic_write(folder.parent / wheel_name(name, version), wheel)
    return folder.parent / wheel_name(name, version)


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    if not any(folder.iterdir()):
        folder.rmdir()
