"""Large files over http: what is there already is not asked for again, wherever the server can go on in the middle (RFC 9110, 14).

A file under way lies beside its final name as .NAME.part; it gets the name once its size and MD5 are those published.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 60.0
BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file at a URL with the size and MD5 (hex) published for it; None and '' where nothing is."""

    url: str
    bytes: int | None = None
    md5: str = ""


def request(url: str, start: int = 0) -> Any:
    """Open a URL from byte `start` on. Raises FileNotFoundError when there is nothing, OSError when it does not answer."""
    headers = {"User-Agent": "hear_ssl", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(f"{url} is not there (HTTP {error.code}); look at the address, or give another --from") from None
        raise


def download(remote: Remote, path: Path) -> None:
    """Download a file to `path`, going on behind what an earlier call left.

    Raises ValueError when it serves other bytes than published, stops answering (six attempts without a new byte) or
    another process is downloading it; OSError when nothing is there, it refuses, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path.name} is being fetched into {path.parent} by another process; wait for it") from None
        resumed = file.tell() > 0
        _fill(remote, file)
        if not as_published(remote, partial) and resumed:  # what lay there was of another file
            file.truncate(0)
            _fill(remote, file)
        if not as_published(remote, partial):
            size = os.path.getsize(partial)
            partial.unlink()
            raise ValueError(f"{remote.url} serves other bytes than published ({size} of them, MD5 differs); try another --from")
        os.fsync(file.fileno())
        os.replace(partial, path)


def _fill(remote: Remote, file: BinaryIO) -> None:
    """Append to `file` until it is whole."""
    failures, longest, failure = 0, file.tell(), ""
    with tqdm(total=remote.bytes, unit="B", unit_scale=True, desc=remote.url.rpartition("/")[2][:40], disable=None, leave=False) as bar:
        while failures < ATTEMPTS:
            if failures:
                time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))
            try:
                _append(remote, file, bar)
                return
            except (OSError, http.client.HTTPException) as error:
                if is_final(error):
                    raise
                failure = " ".join(str(error).split()) or type(error).__name__
            failures = 1 if file.tell() > longest else failures + 1
            longest = max(longest, file.tell())
    raise ValueError(f"{remote.url} stopped after {file.tell()} bytes ({failure[:120]}); the same command goes on from there")


def is_final(error: Exception) -> bool:
    """Say whether trying again is of no use: nothing there, not allowed, or the disk is full."""
    refused = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code not in (408, 416, 429)
    return refused or isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _append(remote: Remote, file: BinaryIO, bar: Any) -> None:
    """Ask for what is missing and write it. Raises OSError when the connection ends before the file does."""
    start = file.seek(0, os.SEEK_END)
    if start and start == remote.bytes:
        return
    try:
        response = request(remote.url, start)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing follows: whole already, or longer than what is served
            if error.headers.get("Content-Range", "").rpartition("/")[2] != str(start):
                file.truncate(0)
                raise ConnectionError("what lay here was longer than the file") from None
            return
        raise
    with response:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status != 206 or not found or int(found[1]) != start:
            file.truncate(0)  # the server starts again, and so do we
            start = 0
        length = response.headers.get("Content-Length")
        end = remote.bytes if remote.bytes is not None else start + int(length) if length else None
        bar.total = end
        bar.update(start - bar.n)
        _copy(response, file, start, end, bar)


def _copy(response: Any, file: BinaryIO, start: int, end: int | None, bar: Any) -> None:
    size = start
    while block := response.read(BLOCK):
        size += len(block)
        if end is not None and size > end:
            file.truncate(0)
            raise ConnectionError(f"more than the {end} bytes that it should have")
        file.write(block)
        file.flush()
        bar.update(len(block))
    if end is not None and size < end:
        raise ConnectionError(f"the connection ended after {size} of {end} bytes")


def as_published(remote: Remote, path: Path) -> bool:
    """Say whether a file has the size and the MD5 published for it, as far as they are."""
    if remote.bytes is not None and path.stat().st_size != remote.bytes:
        return False
    return not remote.md5 or md5_of(path) == remote.md5


def md5_of(path: Path) -> str:
    """Return the MD5 of a file as lower-case hex: no proof against an attacker, but what the record publishes."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
