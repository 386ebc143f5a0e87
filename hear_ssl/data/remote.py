"""Shard folders at a URL: every shard is fetched whole into a local cache, checked against the index, and then read like a
local one.

http and https need nothing more; s3://, gs://, hf:// and other addresses go through fsspec and ask for its package. A
fetch that breaks off, or brings other bytes, is tried again with growing pauses. Processes on one machine share the
cache: each shard is fetched by one of them while the others wait. A shard counts as there only under its final name.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hear_ssl.data.index import INDEX_NAME, ShardIndex, ShardRecord, read_index
from hear_ssl.files import atomic_path, sha256_of

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 20
INDEX_LIMIT = 64 << 20  # bytes


def is_remote(source: str) -> bool:
    """Say whether a source is a URL rather than a folder."""
    return "://" in source


def local_copy(source: str, cache: str | Path) -> Path:
    """Return the folder that holds the shards of a source: itself when local, else its copy in the cache, fetched now.

    Raises ValueError when the address does not answer, is no shard folder, or keeps serving other bytes than its index
    says; what was fetched before stays, and the next call goes on behind it.
    """
    if not is_remote(source):
        return Path(source)
    url = source.rstrip("/")
    folder = Path(cache).expanduser() / hashlib.sha256(url.encode()).hexdigest()[:24]  # by the full address: names repeat
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        fetch(f"{url}/{INDEX_NAME}", folder / INDEX_NAME, None)
        index = read_index(folder)
        check_space(folder, index)
        start = time.monotonic()
        for number, record in enumerate(index.shards):
            if not present(folder / record.name, record):
                fetch(f"{url}/{record.name}", folder / record.name, record)
                say(f"{url}: {number + 1} of {len(index.shards)} shards, {time.monotonic() - start:.0f} s")
    return folder


def present(path: Path, record: ShardRecord) -> bool:
    """Say whether a whole shard lies in the cache; its bytes were checked before it got its name."""
    return path.is_file() and path.stat().st_size == record.bytes


def check_space(folder: Path, index: ShardIndex) -> None:
    """Raise ValueError when the shards that are missing do not fit the disk."""
    wanted = sum(record.bytes for record in index.shards if not present(folder / record.name, record))
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if wanted > free:
        raise ValueError(f"{folder} has {free / 1e9:.1f} GB left, the shards need {wanted / 1e9:.1f} GB; set data.cache to another folder")


def fetch(url: str, path: Path, record: ShardRecord | None) -> None:
    """Fetch a file and check it against its record; it appears under its name only when right.

    Raises ValueError with the last failure after six attempts, at once when the address says that there is nothing.
    """
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with atomic_path(path) as temporary:
                copy(url, temporary, record.bytes if record else INDEX_LIMIT)
                if record and (temporary.stat().st_size, sha256_of(temporary)) != (record.bytes, record.sha256):
                    raise ConnectionError(f"{temporary.stat().st_size} of {record.bytes} bytes, or others than the index says")
            return
        except FileNotFoundError:
            raise ValueError(f"{url} is not there; give the address of a folder packed by hear_ssl.data.pack") from None
        except (OSError, http.client.HTTPException) as error:
            failure = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"{url} cannot be fetched after {ATTEMPTS} attempts ({failure[:160]}); the same command goes on when it answers again")


def copy(url: str, path: Path, limit: int) -> None:
    """Copy at most `limit` bytes of a URL to a file. Raises OSError when it breaks off or is longer."""
    with closing(opened(url)) as source, open(path, "wb") as target:
        size = 0
        while block := source.read(BLOCK):
            size += len(block)
            if size > limit:
                raise ConnectionError(f"more than the {limit} bytes that it should have")
            target.write(block)


def opened(url: str) -> Any:
    """Return a file to read a URL from. Raises FileNotFoundError when there is none, OSError when it does not answer."""
    if url.startswith(("http://", "https://")):
        try:
            return urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise FileNotFoundError(url) from None
            raise
    try:
        import fsspec

        return fsspec.open(url, "rb").open()
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url.partition('://')[0]}:// cannot be read ({' '.join(str(error).split())[:120]})") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this machine wait for; it ends with the process, however that ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)
