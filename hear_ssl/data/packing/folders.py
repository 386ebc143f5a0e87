"""Walk the files of a folder: each real folder once, even if links point to it, without the files that packing writes."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hear_ssl.data.packing.file_kinds import is_leftover

OWN = re.compile(
    r"index\.json|rejected\.csv|\.pack\.(json|log)|\.merge\.json|.*\.clips|.*-\d{6}\.tar|\..*\.part"
)  # files that packing writes
PART_FOLDER = re.compile(r"part-(\d{1,6})-of-(\d{1,6})")


@dataclass(frozen=True)
class Found:
    """A file, its path relative to the input, and why it, or its folder, cannot be read ('' when it can)."""

    path: Path
    name: str
    refused: str = ""


def walk(root: Path, out: Path | None, left: Counter[str]) -> Iterator[Found]:
    """Yield the files below a folder in a stable order; `left` counts system files.

    Links to folders are followed after all other folders, so that a file is named by its real path. An inaccessible folder and a
    broken link are yielded as refused. `out` is the output folder of the packing.
    """
    here, linked, seen = deque([root]), deque[Path](), set[tuple[int, int]]()
    while here or linked:
        folder = here.popleft() if here else linked.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen or _is_inside(folder, out, root):
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield Found(folder, _name(folder, root), f"unreadable: the folder cannot be entered ({error.strerror})")
            continue
        own = out is not None and os.path.realpath(folder) == os.path.realpath(out)
        for entry in entries:
            path = folder / entry.name
            if is_leftover(entry.name):
                left["files that operating systems leave behind"] += 1
            elif os.path.isdir(path):
                if not (own and PART_FOLDER.fullmatch(entry.name)):
                    (linked if entry.is_symlink() else here).append(path)
            elif os.path.isfile(path):
                if not (own and OWN.fullmatch(entry.name)):
                    yield Found(path, _name(path, root))
            else:
                yield Found(
                    path, _name(path, root), "unreadable: " + ("a link that leads nowhere" if entry.is_symlink() else "no regular file")
                )


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_inside(folder: Path, out: Path | None, root: Path) -> bool:
    """Return whether a folder is the output folder, unless the input itself is that folder or inside it."""
    if out is None:
        return False
    target = os.path.realpath(out)
    return os.path.realpath(folder) == target and not Path(os.path.realpath(root)).is_relative_to(target)
