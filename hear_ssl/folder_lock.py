"""Lock an output folder, so that only one process at a time writes to it.

The folder itself is locked by flock(2). The system releases the lock when the process ends, and no file remains. If a folder cannot be
locked, as on NFS, a file `.lock` in it is locked instead; on a file system without locks there is a warning.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from hear_ssl.progress import warn
from hear_ssl.safe_open import open_own

LOCK_NAME = ".lock"
OUT_BUSY = "wait for it to end, or give another folder"
PAUSE_SECONDS = 0.05
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # errors of a file system without flock


class FolderBusyError(ValueError):
    """Another process has locked the folder."""


@contextmanager
def folder_lock(folder: str | os.PathLike[str], remedy: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Lock a folder, created if needed, against every other `folder_lock`; remove it at the end if it is still empty.

    Raises FolderBusyError, which ends with `remedy`, when another process keeps it locked for longer than `wait_seconds`; OSError when
    it cannot be created or opened.
    """
    path = Path(folder)
    made = [parent for parent in (path, *path.parents) if not os.path.lexists(parent)]
    descriptor = _wait(partial(_make_and_try, path), path, remedy, time.monotonic() + wait_seconds)
    try:
        yield
    finally:
        with suppress(OSError):
            for parent in made:
                parent.rmdir()  # while it is still locked; fails unless it is empty
        os.close(descriptor)


@contextmanager
def file_lock(file: str | os.PathLike[str], remedy: str, wait_seconds: float) -> Iterator[None]:
    """Lock a file, created if needed, during a short change to another file in its folder. Raises as `folder_lock` does."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _wait(partial(_try_file, path), path.parent, remedy, time.monotonic() + wait_seconds)
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(folder: str | os.PathLike[str]) -> bool | None:
    """Return whether a process has locked a folder by `folder_lock`, or None when that is unknown; neither waits nor writes.

    The folder, or the file `.lock` in it, is locked for an instant, shared with other readers. A process that must not fail because of
    this instant uses `folder_lock` with `wait_seconds`.
    """
    path = Path(folder)
    for place in (path, path / LOCK_NAME):
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW * (place != path) | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:  # a file system that does not lock folders: use the file
            continue
        finally:
            os.close(descriptor)
    return None


def _wait(attempt: Callable[[], int | None], folder: Path, remedy: str, deadline: float) -> int:
    """Return the open descriptor of the first attempt that gets the lock; closing it releases the lock."""
    while True:
        held = attempt()
        if held is not None:
            return held
        if time.monotonic() >= deadline:
            raise FolderBusyError(f"another process is writing to {folder}; {remedy}")
        time.sleep(PAUSE_SECONDS)


def _make_and_try(path: Path) -> int | None:
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
            return _try_folder(path)
        except FileNotFoundError:  # another process has just removed it, since it was empty
            continue
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"{path} is not a folder; give another one") from None


def _try_folder(path: Path) -> int | None:
    """Return a descriptor with the lock of the folder, or None when another process has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        if error.errno in (errno.EBADF, *NO_LOCKS):  # EBADF: NFS locks only files that are open for writing
            return _try_file(path / LOCK_NAME)
        raise


def _try_file(path: Path) -> int | None:
    """Return a descriptor with the lock of a file, created if needed, or None when another process has it."""
    descriptor = open_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            os.close(descriptor)
            raise
        reason = os.strerror(error.errno or 0)
        warn(f"{path.parent} cannot be locked ({reason}): let no second command write to it meanwhile", aside=True)
    return descriptor
