"""Random access to the clips of several sources of tar shards.

The clip offsets of a shard are read with its first clip. The numbers of clips depend only on the indexes, so a damaged shard does not
change the numbers of other clips.
"""

from __future__ import annotations

import bisect
import json
import math
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from hear_ssl.data.shards.clip_offsets import (
    UNKNOWN,
    Clip,
    ClipOffsets,
    checksum,
    load_clip_offsets,
    no_clip_offsets,
    read_bytes,
    scan_shard,
)
from hear_ssl.data.shards.shard_index import ShardIndex, ShardRecord, each_once
from hear_ssl.data.shards.sources import Source, check_once, open_source

RETRY_SECONDS = 600.0  # a request to a silent address takes up to 200 s


class ShardSet:
    """All clips of several sources, numbered in the order of sources, shards and members."""

    def __init__(self, entries: list[str], cache: str | Path = "", cache_gb: float = 0.0, tables_kept: int = 0) -> None:
        """Read the indexes of the entries of data.shards; clip offsets of at most `tables_kept` shards are kept in memory (0: all).

        Raises ValueError when there is no entry, an index is missing, damaged or marked as test data, or two entries have the same shard.
        """
        if not entries:
            raise ValueError("data.shards is empty; give the folder that hear-ssl pack wrote: data.shards=FOLDER")
        self.sources = [open_source(entry, cache, cache_gb) for entry in entries]
        check_once(self.sources)
        self.shards: list[tuple[Source, ShardRecord]] = [(source, record) for source in self.sources for record in source.index.shards]
        self.first_clips = [0, *accumulate(record.clips for _, record in self.shards)]
        self.tables_kept = tables_kept
        self._tables: dict[int, ClipOffsets] = {}
        self._checked: set[str] = set()  # cached shards whose bytes were compared
        self._retry: dict[int, float] = {}  # time of the next attempt for shards that could not be read

    def __len__(self) -> int:
        """Return the number of clips in the indexes."""
        return self.first_clips[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without clip offsets, which each worker reads as needed."""
        return {**self.__dict__, "_tables": {}, "_retry": {}, "_checked": set()}

    @property
    def indexes(self) -> list[ShardIndex]:
        """The index of every source."""
        return [source.index for source in self.sources]

    @property
    def sample_rates(self) -> set[int]:
        """The sample rates of the sources in Hz."""
        return {index.sample_rate for index in self.indexes}

    @property
    def clips(self) -> list[Clip]:
        """All clips. Raises ValueError that names the first missing or damaged shard."""
        return list(self._whole())

    def _whole(self) -> Iterator[Clip]:
        for number, (source, record) in enumerate(self.shards):
            table = self.table(number)
            damage = source.damage(record) or table.damage
            if damage:
                raise ValueError(f"shard {source.address}/{record.name} is damaged ({damage}); pack or download it again")
            yield from (clip for clip in map(table.clip, range(len(table))) if clip is not None)

    def damage(self) -> dict[int, str]:
        """Return {shard number: reason} for local shards that are missing or have a wrong size. Reads no shard."""
        reasons = {number: source.damage(record) for number, (source, record) in enumerate(self.shards)}
        return {number: reason for number, reason in reasons.items() if reason}

    def fetched(self) -> object:
        """Return a value that changes while any process downloads shards into the caches."""
        return [source.cache.fetched() for source in self.sources if source.cache]

    def shard_of(self, number: int) -> int:
        """Return the number of the shard that contains a clip."""
        return bisect.bisect_right(self.first_clips, number) - 1

    def clip(self, number: int) -> Clip:
        """Return the position of a clip. Raises ValueError that names its shard when that is missing or damaged there."""
        shard = self.shard_of(number)
        table = self.table(shard)
        clip = table.clip(number - self.first_clips[shard])
        if clip is None:
            raise ValueError(f"the shard is damaged ({table.damage})")
        return clip

    def table(self, shard: int) -> ClipOffsets:
        """Return the clip offsets of a shard; a remote shard is downloaded unless it is in the cache.

        A failure is stored in them and tried again after RETRY_SECONDS.
        """
        if shard not in self._tables or self._retry.get(shard, math.inf) < time.monotonic():
            self._retry.pop(shard, None)
            if self.tables_kept and len(self._tables) >= self.tables_kept and shard not in self._tables:
                del self._tables[next(iter(self._tables))]
            source, record = self.shards[shard]
            try:
                with source.held(record) as path:
                    self._tables[shard] = self._read(path, record, source.index.audio)
            except (ValueError, OSError) as error:
                self._tables[shard] = no_clip_offsets(" ".join(str(error).split()))
                self._retry[shard] = time.monotonic() + RETRY_SECONDS
        return self._tables[shard]

    def _read(self, path: Path, record: ShardRecord, audio: str) -> ClipOffsets:
        table = load_clip_offsets(path, record.sha256) or scan_shard(path, audio)
        if len(table) > record.clips or (len(table) < record.clips and not table.damage):
            return no_clip_offsets(f"it holds {len(table)} clips, the index states {record.clips}")
        return table

    def place(self, number: int) -> tuple[str, str]:
        """Return a clip's shard and key for a report; if the key is unreadable, its number in the shard."""
        shard = self.shard_of(number)
        source, record = self.shards[shard]
        row = number - self.first_clips[shard]
        clip = self._tables[shard].clip(row) if shard in self._tables else None
        return f"{source.address}/{record.name}", clip.key if clip else f"clip {row}"

    def audio(self, clip: Clip) -> bytes:
        """Return the encoded audio of a clip. Raises ValueError or OSError when it cannot be read or has changed since packing."""
        content = self._bytes(clip.shard, clip.offset, clip.size)
        if clip.checksum not in (UNKNOWN, checksum(clip.codec, content)):
            raise ValueError("its bytes are not those that were packed")
        return content

    def _bytes(self, path: str, offset: int, size: int) -> bytes:
        try:
            return read_bytes(path, offset, size)
        except FileNotFoundError:  # a cache with a size limit may have removed it since its offsets were read
            for source, record in self._cached(path):
                with source.held(record):
                    return read_bytes(path, offset, size)
            raise

    def _cached(self, path: str) -> list[tuple[Source, ShardRecord]]:
        """Return source and record of a cached shard; [] for other shards."""
        place = Path(path)
        return [(source, record) for source, record in self.shards if source.cache and source.cache.folder / record.name == place][:1]

    def mend(self, clip: Clip) -> bool:
        """Download the shard of a clip again if its cached copy is damaged; return whether it was. Each copy is checked once."""
        found = [] if clip.shard in self._checked else self._cached(clip.shard)
        self._checked.add(clip.shard)
        return any(source.cache is not None and source.cache.mend(record) for source, record in found)

    def record(self, clip: Clip) -> dict[str, Any]:
        """Return the JSON member of a clip, or {} without one. Raises ValueError when it is damaged."""
        if not clip.json_size:
            return {}
        try:
            record = json.loads(self._bytes(clip.shard, clip.json_offset, clip.json_size))
        except (ValueError, RecursionError):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is damaged") from None
        if not isinstance(record, dict):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is not an object")
        return record

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences, each once, for checkpoints and model cards."""
        return {
            "hours": sum(index.hours for index in self.indexes),
            "split": ", ".join(sorted({index.split for index in self.indexes})),
            "sources": each_once(vars(source) for index in self.indexes for source in index.sources),
        }
