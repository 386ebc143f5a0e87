"""Read untrusted tar archives in bounded memory and time, with tarfile of the standard library.

tarfile trusts the headers: a negative size causes an endless loop, the headers before a member may have any length, and every member is
kept in memory. Here each header is checked before it is used. Nothing is extracted.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_HEADER_BYTES = 1 << 18  # of all headers before one member: long names, extended attributes, maps of sparse files
MOST_GLOBAL_RECORDS = 100
LARGEST = 1 << 60  # bytes of a member
MOST_EXPANSION = 200  # times the size on disk; silence as 16-bit PCM shrinks to a thousandth, music and speech to a half
BYTES_OF_A_MEMBER = 50  # smallest size on disk: a header compresses to about 30 bytes
FEW_MEMBERS = 10_000  # this many are always allowed
COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
RECORD = re.compile(rb"([1-9]\d{0,8}) [^=\n]+=")  # the beginning of a record in a pax header, with its length


class Headers:
    """The file of an archive during the reading of one member's headers, which may have at most MOST_HEADER_BYTES."""

    def __init__(self, file: Any) -> None:
        self.file, self.left, self.again = file, MOST_HEADER_BYTES, b""

    def read(self, size: int) -> bytes:
        """Return bytes of a header, or bytes to read again. Raises tarfile.ReadError when there are too many."""
        if self.again:
            again, self.again = self.again, b""
            return again
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"headers of {size} bytes before one member")
        self.left -= size
        content: bytes = self.file.read(size)
        if len(content) < size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def __getattr__(self, name: str) -> Any:
        """Return the attributes of the file."""
        return getattr(self.file, name)


class BoundedTarInfo(tarfile.TarInfo):
    """A member whose headers are checked before tarfile uses them; pass it to tarfile.open as `tarinfo`."""

    def _proc_member(self, tar: Any) -> Any:
        """Process a header and those that belong to it. Raises tarfile.ReadError when it has an impossible size."""
        if not 0 <= self.size < LARGEST:
            raise tarfile.ReadError(f"a member of {self.size} bytes")
        file = tar.fileobj
        if isinstance(file, Headers):
            return super()._proc_member(tar)  # type: ignore[misc]
        tar.fileobj = Headers(file)
        try:
            member = super()._proc_member(tar)  # type: ignore[misc]
        except RecursionError:
            raise tarfile.ReadError("too many headers before one member") from None
        finally:
            tar.fileobj = file
        if not 0 <= member.size < LARGEST or tar.offset <= self.offset:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        return member

    def _proc_pax(self, tar: Any) -> Any:
        """Process a pax header, whose records must fill it without gaps: otherwise tarfile needs quadratic time and memory."""
        content = tar.fileobj.read(self._block(self.size))  # type: ignore[attr-defined]
        place = 0
        while place < self.size:
            found = RECORD.match(content, place)
            end = place + int(found[1]) if found else 0
            if not found or not found.end() < end <= self.size or content[end - 1 : end] != b"\n":
                raise tarfile.ReadError("a damaged pax header")
            place = end
        if self.type == tarfile.XGLTYPE and len(tar.pax_headers) > MOST_GLOBAL_RECORDS:
            raise tarfile.ReadError("too many global pax headers")
        tar.fileobj.again = content
        return super()._proc_pax(tar)  # type: ignore[misc]


class BoundedStream:
    """The uncompressed content of a compressed file, readable up to MOST_EXPANSION times its size on disk."""

    def __init__(self, path: str | os.PathLike[str], stream: Any) -> None:
        self.path, self.stream = path, stream
        self.limit = MOST_EXPANSION * max(os.path.getsize(path), 1024)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes. Raises ValueError beyond the limit."""
        left = max(0, self.limit - self.stream.tell())
        content: bytes = self.stream.read(min(size, left + 1))
        if len(content) > left:
            raise self._too_large()
        return content

    def seek(self, place: int) -> int:
        """Move to a position. Raises ValueError beyond the limit."""
        if place > self.limit:
            raise self._too_large()
        return int(self.stream.seek(place))

    def tell(self) -> int:
        """Return the position."""
        return int(self.stream.tell())

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def _too_large(self) -> ValueError:
        return ValueError(f"archive {self.path} unpacks to far more than it occupies; unpack it yourself if you trust it")


def open_stream(path: str | os.PathLike[str]) -> Any:
    """Return an open tar, gzip, bzip2 or xz file that reads uncompressed content. Raises OSError when it cannot be opened."""
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, opener in COMPRESSIONS.items():
        if start.startswith(magic):
            return BoundedStream(path, opener(path))
    return open(path, "rb")


@contextmanager
def open_tar(path: str | os.PathLike[str]) -> Iterator[tarfile.TarFile]:
    """Open a tar, compressed or not. Raises tarfile.TarError when it is not a tar, OSError when it cannot be opened."""
    stream = open_stream(path)
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=BoundedTarInfo) as tar:
            yield tar
    finally:
        stream.close()


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an open tar without keeping them."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        yield member


def tar_members(tar: tarfile.TarFile, path: str | Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an open tar, and raise tarfile.ReadError when it ends before its end mark.

    tarfile treats a damaged header after the first one, and a file truncated between two members, as the end. Raises ValueError when
    there are more members than the file at `path` can contain.
    """
    most = max(FEW_MEMBERS, os.path.getsize(path) // BYTES_OF_A_MEMBER)
    for number, member in enumerate(members(tar)):
        if number >= most:
            raise ValueError(
                f"archive {path} holds more than {most} files in its {os.path.getsize(path)} bytes; unpack it yourself if you trust it"
            )
        yield member
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if not block or any(block):
        raise tarfile.ReadError("a damaged header" if block else "no end mark")
