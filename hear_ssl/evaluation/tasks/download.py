"""Download the archive of a task; an interrupted download resumes if the server supports it.

An incomplete file is stored as .NAME.part next to its final name; it is renamed when its size and MD5 are those published.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from hear_ssl.addresses import redacted
from hear_ssl.download import BLOCK, open_http, open_unchecked, refused_hint, retry, transfer
from hear_ssl.errors import one_line
from hear_ssl.safe_open import open_own


@dataclass(frozen=True)
class Remote:
    """A file at a URL with its published size and MD5 (hex), None and '' if not published. limit: its largest size in bytes."""

    url: str
    bytes: int | None = None
    md5: str = ""
    limit: int | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The URL without credentials."""
        return redacted(self.url)


def download_archive(remote: Remote, path: Path) -> None:
    """Download a file to `path`, resuming an interrupted download.

    Raises ValueError when the server sends other bytes than published, stops answering (six attempts without a new byte) or
    another process is downloading the file; OSError when the file does not exist, the server refuses, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_own(partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path.name} is being fetched into {path.parent} by another process; wait for it") from None
        resumed = file.tell() > 0
        _complete(remote, file)
        if not as_published(remote, partial) and resumed:  # the partial file was of another file
            file.truncate(0)
            _complete(remote, file)
        if not as_published(remote, partial):
            size = os.path.getsize(partial)
            partial.unlink()
            raise ValueError(f"{remote.shown} serves other bytes than published ({size} of them, MD5 differs); try another --from")
        os.fsync(file.fileno())
        os.replace(partial, path)


def _complete(remote: Remote, file: BinaryIO) -> None:
    """Append to `file` until it is complete, with a progress bar."""
    with tqdm(total=remote.bytes, unit="B", unit_scale=True, desc=remote.name[:40], disable=None, leave=False) as bar:

        def show(size: int, end: int | None) -> None:
            bar.total = end
            bar.update(size - bar.n)

        try:
            opener = open_http if remote.md5 else open_unchecked
            retry(lambda: transfer(remote.url, file, size=remote.bytes, limit=remote.limit, opener=opener, progress=show), file)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; look at the address, or give another --from") from None
        except ConnectionError as error:
            size = file.seek(0, os.SEEK_END)
            raise ValueError(f"{remote.shown} stopped after {size} bytes and {error}; the same command resumes from there") from None
        except OSError as error:
            if not refused_hint(error):
                raise
            raise OSError(f"{remote.shown}: {one_line(error)}{refused_hint(error)}") from None


def as_published(remote: Remote, path: Path) -> bool:
    """Return whether a file has the published size and MD5, as far as they are known."""
    if remote.bytes is not None and path.stat().st_size != remote.bytes:
        return False
    return not remote.md5 or md5_of(path) == remote.md5


def md5_of(path: Path) -> str:
    """Return the MD5 of a file as lower-case hex: not secure against an attacker, but the published checksum."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
