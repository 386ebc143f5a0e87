"""Cache of remote shards: every shard is downloaded completely, checked against the index, and then read like a local one.

The cache may have a size limit; then the least recently used shards are removed. Processes on one machine share the cache: one of them
downloads a shard while the others wait for it. A shard is complete when it has its final name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hear_ssl.addresses import joined, redacted
from hear_ssl.data.shards.clip_offsets import SUFFIX, sha256_of_clip_offsets, write_clip_offsets
from hear_ssl.data.shards.fetch import fetch_shard_file
from hear_ssl.data.shards.shard_index import INDEX_NAME, ShardIndex, ShardRecord, read_index
from hear_ssl.errors import one_line
from hear_ssl.files import sha256_of
from hear_ssl.machine import expand_home
from hear_ssl.progress import warn
from hear_ssl.safe_open import open_own, own_folder

PART = re.compile(r"\.(.+)\.(tar|clips|json)\.(?:room|\d+\.[0-9a-f]{8})\.part")  # see atomic_path and ShardCache.room

FOLDER = re.compile("[0-9a-f]{24}")  # see ShardCache
ROOM_PAUSE_SECONDS = 0.05


def is_remote(source: str) -> bool:
    """Return whether a source is a URL, or a command that writes a shard, and not a folder."""
    return "://" in source or source.startswith("pipe:")


class ShardCache:
    """The local copies of the shards at one address, in a subfolder of the cache's root.

    With a size limit, the least recently used shards of any address are removed. The subfolder is named by a hash of the address
    without credentials, because names of folders and shards repeat.
    """

    def __init__(self, address: str, root: str | Path, limit_gb: float = 0.0) -> None:
        """Open the cache of an address and remove leftovers of crashes. limit_gb: size limit of the whole root, 0 for none."""
        self.address = redacted(address).rstrip("/")
        self.full_address = address  # with user, password and signature, if there are any
        self.root = Path(expand_home(str(root), "data.cache"))
        self.folder = self.root / hashlib.sha256(self.address.encode()).hexdigest()[:24]
        self.limit = round(limit_gb * 1e9)
        self.audio = ""  # as in the index
        try:
            own_folder(self.folder)
        except OSError as error:
            raise OSError(f"data.cache {self.root} cannot be made: {error.strerror}; give another with data.cache=FOLDER") from None
        remove_abandoned(self.folder)

    def index(self) -> ShardIndex:
        """Return the index, downloaded now, or the one downloaded earlier when the address does not answer.

        Raises ValueError when there is none.
        """
        path = self.folder / INDEX_NAME
        with locked(self.folder / ".lock"):
            try:
                fetch_shard_file(joined(self.full_address, INDEX_NAME), path, None)
            except ConnectionError as error:
                if not path.is_file():
                    raise ValueError(str(error)) from None
                say(f"{error}; using the index fetched earlier")
            index = read_index(self.folder)
            self.audio = index.audio
            return index

    def path(self, record: ShardRecord) -> Path:
        """Return the local copy of a shard, downloaded if missing. Raises ValueError when it cannot be downloaded."""
        path = self.folder / record.name
        if not present(path, record):
            with self.held(record):
                pass
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)  # mark as used now
        return path

    @contextmanager
    def held(self, record: ShardRecord) -> Iterator[Path]:
        """Download a shard if missing, and keep other processes from removing it while it is opened.

        Raises ValueError when it cannot be downloaded.
        """
        path = self.folder / record.name
        with locked(self.folder / f".{record.name}.lock"):
            if not present(path, record) and not whole(path, record):
                try:
                    with self.room(record):
                        fetch_shard_file(joined(self.full_address, record.name), path, record)
                except ConnectionError as error:
                    raise ValueError(str(error)) from None
            if not present(path, record):
                with contextlib.suppress(ValueError):  # damaged when it was packed: scanning finds its readable clips
                    write_clip_offsets(path, record.sha256, self.audio)
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)
            yield path

    def mend(self, record: ShardRecord) -> bool:
        """Download a shard again when its copy has changed since the download, print a line, and return whether it did.

        A copy that cannot be replaced is kept: most of its clips may be intact.
        """
        path = self.folder / record.name
        with locked(self.folder / f".{record.name}.lock"):
            if not path.is_file() or sha256_of(path) == record.sha256:
                return False
            say(f"{path} is damaged: it is fetched again")
            try:
                fetch_shard_file(joined(self.full_address, record.name), path, record)
            except (ConnectionError, ValueError) as error:
                say(str(error))
                return False
            return True

    def fetch_all(self, index: ShardIndex, lossy: float = 0.0) -> None:
        """Download every missing shard and report progress.

        Raises ValueError with the last reason as soon as shards with more than the share `lossy` of the clips cannot be downloaded, or
        the disk is too small. Downloaded shards are kept, and the next call continues after them.
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
        """Raise ValueError when the missing shards do not fit on the disk."""
        wanted = sum(record.bytes for record in index.shards if not present(self.folder / record.name, record))
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if wanted > free:
            raise ValueError(
                f"{self.folder} has {free / 1e9:.1f} GB left, the shards need {wanted / 1e9:.1f} GB; set data.cache to another folder,"
                " or bound it by data.cache_gb with data.window_shards"
            )

    def fetched(self) -> object:
        """Return names, sizes and times of partial files, which change while shards of the address are downloading."""
        return [(path, size, time) for time, size, path in used_last(self.folder.glob(".*.part"))]

    @contextmanager
    def room(self, record: ShardRecord) -> Iterator[None]:
        """Reserve disk space for a shard during its download; wait while the downloads of others use up the size limit."""
        kept = self.folder / f".{record.name}.room.part"  # a sparse file of the shard's size
        try:
            while self.limit and not self._reserve(record, kept):
                time.sleep(ROOM_PAUSE_SECONDS)
            yield
        finally:
            kept.unlink(missing_ok=True)

    def _reserve(self, record: ShardRecord, kept: Path) -> bool:
        """Remove least recently used shards until a shard fits next to current downloads; return whether it does, and reserve the space."""
        with locked(self.root / ".lock"):
            kept.unlink(missing_ok=True)  # left by a crash, since this process has the shard's lock
            folders = own_folders(self.root)
            for folder in folders:
                remove_abandoned(folder)
            coming = used_last(
                path for folder in folders for path in folder.glob(".*.room.part")
            )  # listed first: a download that ends meanwhile is found below
            there = used_last(path for folder in folders for path in folder.glob("*.tar"))
            needed = sum(size for _, size, _ in coming) + record.bytes
            if coming and needed > self.limit:
                return False
            used = needed + sum(size for _, size, _ in there)
            for _, size, path in there:
                if used > self.limit and remove_unless_held(path):
                    used -= size
            if used > self.limit and any(path.exists() for _, _, path in there):
                return False  # the others are being opened and can be removed in a moment
            with os.fdopen(open_own(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.truncate(record.bytes)
            return True


def remove_unless_held(path: Path) -> bool:
    """Remove a shard of the cache with its clip offsets; return False when a process is opening it."""
    with locked(path.with_name(f".{path.name}.lock"), wait=False) as free:
        if free:
            path.unlink(missing_ok=True)
            path.with_suffix(SUFFIX).unlink(missing_ok=True)
        return free


def own_folders(root: Path) -> list[Path]:
    """Return the folders of addresses under a root; links, and folders with other names, do not belong to the cache."""
    return [folder for folder in root.glob("*/") if FOLDER.fullmatch(folder.name) and not folder.is_symlink()]


def used_last(paths: Iterable[Path]) -> list[tuple[float, int, Path]]:
    """Return (time of last use in s, bytes, path) of files, sorted by time; files that vanish meanwhile are left out."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            found.append((status.st_mtime, status.st_size, path))
    return sorted(found)


def present(path: Path, record: ShardRecord) -> bool:
    """Return whether a shard is in the cache with clip offsets that were written for these bytes, not for an earlier packing."""
    return path.is_file() and path.stat().st_size == record.bytes and sha256_of_clip_offsets(path) == record.sha256


def whole(path: Path, record: ShardRecord) -> bool:
    """Return whether a shard is in the cache, without clip offsets but with the right bytes."""
    return path.is_file() and path.stat().st_size == record.bytes and sha256_of(path) == record.sha256


def remove_abandoned(folder: Path) -> None:
    """Remove leftovers of crashes in a folder of the cache: partial files whose lock is free."""
    for path in folder.glob(".*.part"):
        found = PART.fullmatch(path.name)
        if found:
            shard, kind = found.groups()
            with locked(folder / (".lock" if kind == "json" else f".{shard}.tar.lock"), wait=False) as free:
                if free:
                    path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock against other processes of this machine; the system releases it when the process ends.

    Yield whether the lock was acquired, which is always true when waiting.
    """
    descriptor = open_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    except OSError:
        os.close(descriptor)
        raise
    try:
        yield free
    finally:
        os.close(descriptor)


def say(line: str) -> None:
    """Show progress."""
    warn(one_line(line), aside=True)
