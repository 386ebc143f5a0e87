"""Write an export to disk: the source tree, and its wheel next to it."""

from __future__ import annotations

import os
from pathlib import Path

from hear_ssl.files import atomic_write, check_writable, remove_parts
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.wheel import build_wheel, wheel_name

WRITING_SECONDS = 60.0  # to wait while another package is written to the same folder


def check_place(out: Path, name: str) -> None:
    """Raise ValueError when out/name exists and is not an exported source tree, or `out` cannot be written."""
    folder = out / name
    if os.path.lexists(folder) and not (folder / name / "manifest.json").is_file():
        raise ValueError(f"{folder} exists and is not an exported source tree; give another --out")
    check_writable(folder / "pyproject.toml")


def write_export(folder: Path, version: str, files: dict[str, bytes], python: str) -> Path:
    """Write a source tree to `folder`, named like its package, and its wheel next to it; return the wheel's path.

    Each file is written atomically. Other content of the folder, such as .git or the user's files, is kept; inside the package itself
    other files are removed, as are incomplete files of killed processes. Raises OSError when the disk is full or read-only.
    """
    name = folder.name
    for place in (folder.parent, folder):
        remove_parts(place)
    metadata = texts.metadata(name, version, files["README.md"].decode(), python)
    package = {path: content for path, content in files.items() if path.startswith(f"{name}/")}
    wheel = build_wheel(name, version, package, metadata, texts.licenses())
    for path in sorted(
        files, key=lambda path: (path != f"{name}/manifest.json", path)
    ):  # the manifest first, which marks the folder as a source tree
        atomic_write(folder / path, files[path])
    for file in sorted((folder / name).rglob("*"), reverse=True):
        if file.is_dir() and not file.is_symlink():
            remove_empty(file)
        elif file.relative_to(folder).as_posix() not in files:
            file.unlink()
    atomic_write(folder.parent / wheel_name(name, version), wheel)
    return folder.parent / wheel_name(name, version)


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    if not any(folder.iterdir()):
        folder.rmdir()
