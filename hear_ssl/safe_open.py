"""Open files with predictable names in folders where other users can write, without following links planted there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_own(path: str | os.PathLike[str], flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Return the descriptor of a regular file, opened or created at exactly this path; `flags` are those of os.open.

    Raises OSError when the path is a link, a pipe or a device, or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise not_own(path) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # a hard link to another user's file
        os.close(descriptor)
        raise not_own(path)
    return descriptor


def not_own(path: str | os.PathLike[str]) -> OSError:
    """Return the error for a path that is a link or not a regular file."""
    reason = "is a link or no regular file, which hear_ssl does not write there; remove it, or use a folder where others cannot write"
    return OSError(errno.ELOOP, reason, str(path))


def own_folder(path: Path) -> None:
    """Create a folder, or accept an existing one. Raises OSError when the path is a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise not_own(path) from None
