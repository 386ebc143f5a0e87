"""Files that appear under their final name only when whole.

Everything is written under a temporary name in the same folder, flushed to the disk and then renamed, so that a full
disk or a killed process leaves the earlier good file untouched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` when the block ends without an error.

    Raises whatever the block or the file system raises; the temporary file is then removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all. Raises OSError when the disk is full."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless a file can be written at `path`; what has to be computed for it may take hours. Nothing is made."""
    file = Path(path).absolute()
    place = next(folder for folder in file.parents if os.path.lexists(folder))
    try:
        if file.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; give another --out") from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as lower-case hex. Raises OSError when it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
