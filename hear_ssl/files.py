"""Write files atomically, and check files before they are used.

Everything is written under a temporary name in the same folder, flushed to disk and then renamed, so that a full disk or a killed process
leaves the earlier file unchanged. The zip archives of torch.save and numpy.savez get the CRC-32 of the whole file as their comment,
because torch.load checks no CRC-32, and numpy.load not always.
"""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import struct
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

PART = re.compile(r"\.(.+)\.(\d+)\.[0-9a-f]{8}\.part")  # a temporary file of `atomic_path`: final name and process
BLOCK = 1 << 20  # bytes read at once
COMMENT_LENGTH = struct.Struct("<H")  # ends a zip archive without a comment (APPNOTE.TXT 6.3.10, section 4.3.16)
END_BYTES, END_MARK = 22, b"PK\x05\x06"  # of the end record
COMMENT = b"crc32:%08x"
COMMENT_BYTES = len(COMMENT % 0)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

AUDIO_FOLDER = "audio folder"  # the unit of an augmentation's option that is a local folder


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` when the block ends without an error.

    Raises whatever the block or the file system raises, with the name of `path` when the disk failed; the temporary file is then
    removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    try:
        with disk_errors_of(final, temporary):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors_of(path: str | os.PathLike[str], temporary: str | os.PathLike[str] = "") -> Iterator[None]:
    """Name `path` in disk errors (OSError) that name no file, such as a failed write, or that name `temporary`."""
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in DISK_ERRORS
        if nameless or (temporary and error.filename in (temporary, str(temporary))):
            raise type(error)(error.errno, error.strerror or os.strerror(error.errno or 0), str(path)) from None
        raise


def remove_parts(folder: Path) -> None:
    """Remove the temporary files of killed processes in a folder to which no other process is writing."""
    for part in folder.glob(".*.part"):
        if PART.fullmatch(part.name):
            part.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove folders of `unfinished_folder(folder, name)` left by killed processes; no other process may be writing there."""
    for left in folder.glob(f".{glob.escape(name)}.unfinished-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def unfinished_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in `folder` in which to create FOLDER/NAME, to be renamed when complete; remove it at the end."""
    with tempfile.TemporaryDirectory(prefix=f".{name}.unfinished-", dir=folder, ignore_cleanup_errors=True) as unfinished:
        yield Path(unfinished)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file. Raises OSError when it cannot be read, ValueError that names it when it is damaged."""
    content = Path(path).read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())[:100]})") from None


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` atomically. Raises OSError when the disk is full."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_rows(path: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows of a CSV file that was written line by line, without an incomplete last row.

    Raises OSError when it cannot be read, ValueError that names it when it is not text or a row before the last is invalid.
    """
    try:
        text = Path(path).read_bytes().decode()
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
        columns = list(reader.fieldnames or [])
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({str(error)[:100]}); repair or remove it, nothing else is lost") from None
    broken = [row for row in rows if None in row or None in row.values()]
    if broken and broken != rows[-1:]:
        line = rows.index(broken[0]) + 2
        raise ValueError(f"{path} is damaged (line {line} does not have {len(columns)} values); repair or remove it, nothing else is lost")
    return columns, rows[: len(rows) - len(broken)]


def read_metrics(path: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of a metrics.csv, whose values are numbers or empty; a missing or empty file has none.

    Raises ValueError that names the file when it is damaged.
    """
    if not Path(path).is_file():
        return [], []
    columns, rows = read_rows(path)
    for row in rows:
        try:
            int(row["step"])
            [float(value) for value in row.values() if value]
        except (KeyError, ValueError):
            values = ",".join(row.values())[:60]
            raise ValueError(f"{path} is damaged (the row {values!r}); repair or remove it, nothing else is lost") from None
    return columns, rows


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless a file can be written at `path`, before hours of computation; nothing is created."""
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
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def add_checksum(path: str | os.PathLike[str]) -> None:
    """Write the CRC-32 of a zip archive into its comment. Raises ValueError when it is not an archive without a comment."""
    with open(path, "rb+") as file:
        end = file.seek(-COMMENT_LENGTH.size, os.SEEK_END)
        if file.read() != COMMENT_LENGTH.pack(0):
            raise ValueError(f"{path} is not a zip archive without a comment")
        file.seek(end)
        file.write(COMMENT_LENGTH.pack(COMMENT_BYTES))
        size = file.tell()
        file.seek(0)
        crc = crc32_of(file, size)
        file.seek(size)
        file.write(COMMENT % crc)


def check_zip(path: str | os.PathLike[str]) -> None:
    """Check a zip archive against the CRC-32 in its comment, or without a comment each member against its CRC-32.

    Raises ValueError or zipfile.BadZipFile when they differ, or when members are compressed or have the same name, so that they could
    unpack to any size; and whatever zipfile raises for damaged headers.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise ValueError(f"{size} bytes would unpack to {unpacked}")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two members have one name")
        if archive.comment:
            file.seek(0)
            if archive.comment != COMMENT % crc32_of(file, size - COMMENT_BYTES):
                raise ValueError("its bytes are not those that were written")
            return
        file.seek(-END_BYTES, os.SEEK_END)
        end = file.read()
        if not end.startswith(END_MARK) or not end.endswith(COMMENT_LENGTH.pack(0)):
            raise ValueError("its end is cut off")
        for member in members:
            with archive.open(member) as content:
                while content.read(BLOCK):  # zipfile compares the CRC-32 at the end
                    pass


def crc32_of(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of the next `size` bytes of an open file."""
    crc = 0
    while size > 0 and (block := file.read(min(BLOCK, size))):
        crc, size = zlib.crc32(block, crc), size - len(block)
    return crc
