"""One process at a time in an output folder.

The folder itself is locked by flock(2), which ends with the process, however that ends, and leaves no file. Where a
folder cannot be locked, as on NFS, a file `.lock` in it is; a file system without locks is named on stderr.
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
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system without flock


class FolderBusyError(ValueError):
    """Another process holds the folder."""


@contextmanager
def folder_lock(folder: str | os.PathLike[str], remedy: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a folder, which is made if need be, against every other `folder_lock`; one that stays empty is removed at the end.

    Raises FolderBusyError, which ends with `remedy`, when another process holds it for longer than `wait_seconds`; OSError
    when it cannot be made or opened.
    """
    path = Path(folder)
    made = [parent for parent in (path, *path.parents) if not os.path.lexists(parent)]
    descriptor = _wait(partial(_make_and_try, path), path, remedy, time.monotonic() + wait_seconds)
    try:
        yield
    finally:
        with suppress(OSError):
            for parent in made:
                parent.rmdir()  # while it is still held; fails unless empty
        os.close(descriptor)


@contextmanager
def file_lock(file: str | os.PathLike[str], remedy: str, wait_seconds: float) -> Iterator[None]:
    """Hold a file, which is made if need be, for a short change to another file in its folder; raises as `folder_lock` does."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _wait(partial(_try_file, path), path.parent, remedy, time.monotonic() + wait_seconds)
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(folder: str | os.PathLike[str]) -> bool | None:
    """Return whether a process holds a folder by `folder_lock`, None where that cannot be found out; waits for nobody, writes nothing.

    The folder, or the file `.lock` in it, is locked for an instant, shared with other readers. Where a process must not fail
    by that, it takes `folder_lock` with a `wait_seconds`.
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
        except OSError:  # a file system that does not lock folders; the file then
            continue
        finally:
            os.close(descriptor)
    return None


def _wait(attempt: Callable[[], int | None], folder: Path, remedy: str, deadline: float) -> int:
    """Return the open descriptor of the first attempt that holds the lock; closing it ends the lock."""
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
        except FileNotFoundError:  # another process has removed it, empty, since
            continue
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"{path} is no folder; give another one") from None


def _try_folder(path: Path) -> int | None:
    """Return a descriptor that holds the folder, None when another process does."""
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
        if error.errno in (errno.EBADF, *NO_LOCKS):  # EBADF: NFS locks only what is open for writing
            return _try_file(path / LOCK_NAME)
        raise


def _try_file(path: Path) -> int | None:
    """Return a descriptor that holds a file, which is made if need be, None when another process does."""
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
