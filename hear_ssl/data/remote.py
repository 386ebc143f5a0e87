"""Shard folders at a URL: every shard is fetched whole into a local cache, checked against the index, and then read like a
local one. The cache may be bounded; then shards used longest ago give way.

http and https need nothing more; s3://, gs://, hf:// and other addresses go through fsspec and ask for its package. A
fetch that breaks off, or brings other bytes, is tried again with growing pauses. Processes on one machine share the
cache: each shard is fetched by one of them while the others wait. A shard counts as there only under its final name.
"""

from __future__ import annotations

import contextlib
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

from hear_ssl.data.index import INDEX_NAME, DamagedIndexError, ShardIndex, ShardRecord, read_index
from hear_ssl.files import atomic_path, sha256_of

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 20
INDEX_LIMIT = 64 << 20  # bytes
ABANDONED_SECONDS = 600.0  # a partial file that did not grow for so long belongs to no fetch any more


def is_remote(source: str) -> bool:
    """Say whether a source is a URL rather than a folder."""
    return "://" in source


class ShardCache:
    """The local copies of one address's shards, in a folder of their own under the cache's root.

    With a bound, shards of any address that were used longest ago give way. Its folder is named by the hash of the full
    address, because names of folders and shards repeat.
    """

    def __init__(self, address: str, root: str | Path, limit_gb: float = 0.0) -> None:
        """Open the cache of an address; limit_gb bounds all under the root, 0 does not. What a crash left is removed."""
        self.address = address.rstrip("/")
        self.root = Path(root).expanduser()
        self.folder = self.root / hashlib.sha256(self.address.encode()).hexdigest()[:24]
        self.limit = round(limit_gb * 1e9)
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def index(self) -> ShardIndex:
        """Return the address's index, fetched now, or the one fetched earlier when the address does not answer.

        Raises ValueError when there is none.
        """
        path = self.folder / INDEX_NAME
        with locked(self.folder / ".lock"):
            try:
                fetch(f"{self.address}/{INDEX_NAME}", path, None)
            except ConnectionError as error:
                if not path.is_file():
                    raise ValueError(str(error)) from None
                say(f"{error}; going on with the index fetched earlier")
            return read_index(self.folder)

    def path(self, record: ShardRecord) -> Path:
        """Return the local copy of a shard; fetch it when it is not there. Raises ValueError when it cannot be fetched."""
        path = self.folder / record.name
        if not present(path, record):
            with locked(self.folder / f".{record.name}.lock"):
                if not present(path, record):
                    try:
                        with self.room(record):
                            fetch(f"{self.address}/{record.name}", path, record)
                    except ConnectionError as error:
                        raise ValueError(str(error)) from None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: others give way first
        return path

    def fetch_all(self, index: ShardIndex, lossy: float = 0.0) -> None:
        """Fetch every shard that is missing, with progress.

        Raises ValueError with the last reason as soon as shards with more than the share `lossy` of the clips cannot be
        fetched, or the disk is too small; what was fetched stays, and the next call goes on behind it.
        """
        self.check_space(index)
        start, failed = time.monotonic(), 0
        for number, record in enumerate(index.shards):
            if present(self.folder / record.name, record):
                continue
            try:
                self.path(record)
                say(f"{self.address}: {number + 1} of {len(index.shards)} shards, {time.monotonic() - start:.0f} s")
            except ValueError as error:
                failed += record.clips
                if failed > lossy * index.clips:
                    raise
                say(f"{error}; its {record.clips} clips are lost")

    def check_space(self, index: ShardIndex) -> None:
        """Raise ValueError when the shards that are missing do not fit the disk."""
        wanted = sum(record.bytes for record in index.shards if not present(self.folder / record.name, record))
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if wanted > free:
            raise ValueError(
                f"{self.folder} has {free / 1e9:.1f} GB left, the shards need {wanted / 1e9:.1f} GB; set data.cache to another folder,"
                " or bound it by data.cache_gb with data.window_shards"
            )

    @contextmanager
    def room(self, record: ShardRecord) -> Iterator[None]:
        """Keep room for a shard while it is fetched: those used longest ago are removed until it fits below the bound."""
        if not self.limit:
            yield
            return
        kept = self.folder / f".{record.name}.room.part"  # as long as the shard, and empty on the disk
        try:
            with locked(self.root / ".lock"):
                found = []
                for path in [*self.root.glob("*/*.tar"), *self.root.glob("*/.*.room.part")]:
                    with contextlib.suppress(FileNotFoundError):
                        found.append((path.stat().st_mtime, path.stat().st_size, path))
                used = sum(size for _, size, _ in found) + record.bytes
                for _, size, path in sorted(found):
                    if used > self.limit and path.suffix == ".tar":
                        path.unlink(missing_ok=True)
                        used -= size
                with open(kept, "wb") as file:
                    file.truncate(record.bytes)
            yield
        finally:
            kept.unlink(missing_ok=True)


def present(path: Path, record: ShardRecord) -> bool:
    """Say whether a whole shard lies in the cache; its bytes were checked before it got its name."""
    return path.is_file() and path.stat().st_size == record.bytes


def fetch(url: str, path: Path, record: ShardRecord | None) -> None:
    """Fetch a shard and check it against its record, or an index (no record); it appears under its name only when right.

    Raises ConnectionError with the last failure after six attempts, ValueError at once when the address says that there
    is nothing.
    """
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with atomic_path(path) as temporary:
                copy(url, temporary, record.bytes if record else INDEX_LIMIT)
                if record is None:
                    read_index(temporary)
                elif (temporary.stat().st_size, sha256_of(temporary)) != (record.bytes, record.sha256):
                    raise ConnectionError(f"{temporary.stat().st_size} of {record.bytes} bytes, or others than the index says")
            return
        except FileNotFoundError:
            raise ValueError(f"{url} is not there; give the address of a folder packed by hear_ssl.data.pack") from None
        except (OSError, http.client.HTTPException, DamagedIndexError) as error:
            failure = " ".join(str(error).split()) or type(error).__name__
    raise ConnectionError(
        f"{url} cannot be fetched after {ATTEMPTS} attempts ({failure[:160]}); the same command goes on when it answers again"
    )


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
