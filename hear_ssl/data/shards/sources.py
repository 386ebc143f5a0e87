"""The entries of data.shards: a folder or an address, complete or with a brace list of its shards.

shards/    shards/train-{000000..000007}.tar    https://example.com/shards    s3://bucket/shards/a-{000,005}.tar
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tarfile import BLOCKSIZE  # the size of a member's header; a clip has two

from braceexpand import braceexpand

from hear_ssl.addresses import redacted
from hear_ssl.data.shards.cache import ShardCache, is_remote
from hear_ssl.data.shards.shard_index import ShardIndex, ShardRecord, check_split, read_index
from hear_ssl.machine import expand_home

MOST_SHARDS = 10**6  # in a brace list


@dataclass(frozen=True)
class Source:
    """One entry of data.shards: its folder or address, the index of its shards, and the cache if it is an address."""

    address: str
    index: ShardIndex
    cache: ShardCache | None = None

    def path(self, record: ShardRecord) -> Path:
        """Return the path of a shard; a remote shard is downloaded unless it is in the cache.

        Raises ValueError when it cannot be downloaded.
        """
        return self.cache.path(record) if self.cache else Path(self.address) / record.name

    @contextmanager
    def held(self, record: ShardRecord) -> Iterator[Path]:
        """Yield the path of a shard; a remote shard is downloaded if missing and kept in the cache while the block opens it.

        Raises ValueError when it cannot be downloaded.
        """
        if self.cache is None:
            yield self.path(record)
            return
        with self.cache.held(record) as path:
            yield path

    def damage(self, record: ShardRecord) -> str:
        """Return why a shard is damaged, judged by its size, or ''. A remote shard is checked when it is downloaded."""
        if record.clips * 2 * BLOCKSIZE > record.bytes:
            return f"the index states {record.clips} clips in {record.bytes} bytes"
        if self.cache:
            return ""
        path = self.path(record)
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        return f"has {size} bytes, the index states {record.bytes}" if size != record.bytes else ""


def open_source(entry: str, cache: str | Path, cache_gb: float = 0.0) -> Source:
    """Read the index of an entry of data.shards.

    Raises ValueError when it is missing, damaged or lacks a shard of the entry, or when the data are marked as test data.
    """
    address, names = expand(entry)
    shard_cache = ShardCache(address, cache, cache_gb) if is_remote(address) else None
    index = shard_cache.index() if shard_cache else read_index(address)
    check_split(index.split, f"the index of {redacted(address)}")
    return Source(redacted(address), chosen(index, names, redacted(entry)), shard_cache)


def expand(entry: str) -> tuple[str, list[str]]:
    """Return the folder (~ is the home folder) or address of an entry and the shards in its brace list; none means all.

    Raises ValueError when braces are unbalanced, or the shards are in several folders.
    """
    entry, mark, query = entry.partition("?") if is_remote(entry) else (expand_home(entry, "data.shards"), "", "")
    if not entry.endswith(".tar") and "{" not in entry:
        return (entry.rstrip("/") or "/") + mark + query, []
    shown = redacted(entry)
    try:
        paths = [path.rpartition("/") for path in islice(braceexpand(entry), MOST_SHARDS)]
    except ValueError:
        raise ValueError(f"data.shards: the braces of {shown!r} do not pair; write them as in train-{{000000..000007}}.tar") from None
    if len(paths) == MOST_SHARDS:
        raise ValueError(f"data.shards: {shown!r} names {MOST_SHARDS} shards or more; give the folder instead")
    folders = sorted({redacted(folder) for folder, _, _ in paths})
    if len(folders) > 1:
        raise ValueError(f"data.shards: {shown!r} names the folders {', '.join(folders[:3])}; give each as an entry of its own")
    return (paths[0][0] or ".") + mark + query, [name for _, _, name in paths]


def chosen(index: ShardIndex, names: list[str], entry: str) -> ShardIndex:
    """Return the index restricted to the named shards. Raises ValueError that names the first missing one."""
    if not names:
        return index
    records = {record.name: record for record in index.shards}
    missing = [name for name in names if name not in records]
    if missing:
        raise ValueError(
            f"data.shards: {entry!r} names {missing[0]}, which is not in its index; there are {', '.join(sorted(records)[:4])} ..."
        )
    shards = tuple(records[name] for name in dict.fromkeys(names))
    hours, clips = sum(record.seconds for record in shards) / 3600, sum(record.clips for record in shards)
    sources = index.sources
    if len(sources) == 1:  # with several sources, the index does not assign them to shards, so all are kept
        sources = (replace(sources[0], hours=hours, clips=clips),)
    return replace(index, shards=shards, clips=clips, hours=hours, sources=sources)


def check_once(sources: list[Source]) -> None:
    """Raise ValueError that names a shard in two entries of data.shards: its clips would come twice per pass."""
    seen = set()
    for source in sources:
        folder = source.address if source.cache else os.path.realpath(source.address)
        for record in source.index.shards:
            if (folder, record.name) in seen:
                raise ValueError(
                    f"data.shards holds {source.address}/{record.name} twice; name each shard once (data.weights weighs one entry more)"
                )
            seen.add((folder, record.name))
