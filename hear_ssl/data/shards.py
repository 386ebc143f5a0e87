"""Random access into tar shards: a table of where each clip lies, and reads of just those bytes.

Headers are walked by the tar format's own block structure (POSIX.1-1988 ustar); nothing is extracted. A shard's table is
read when its first clip is asked for; the number of a clip follows from the indexes alone, so damage shifts nothing.
"""

from __future__ import annotations

import bisect
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from hear_ssl.data.index import ShardIndex, ShardRecord
from hear_ssl.data.sources import Source, open_source
from hear_ssl.files import tar_members

AUDIO_SUFFIXES = ("flac", "wav", "ogg", "opus", "mp3")


@dataclass(frozen=True)
class Clip:
    """Where one clip lies: shard path, key, codec, offset and size of its audio and of its JSON member in bytes."""

    shard: str
    key: str
    codec: str
    offset: int
    size: int
    json_offset: int
    json_size: int


@dataclass(frozen=True)
class Table:
    """The clips of a shard in its order, None for one that lacks a whole member, and what is damaged ('' when nothing is)."""

    clips: list[Clip | None]
    damage: str = ""


def scan_table(path: str | Path) -> Table:
    """Return the clips of a shard as far as it can be read. Raises OSError when it cannot be opened."""
    members: dict[str, dict[str, tuple[int, int]]] = {}
    damage = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar_members(tar):
                if member.isreg():
                    key, _, suffix = member.name.partition(".")
                    members.setdefault(key, {})[suffix.lower()] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        damage = " ".join(str(error).split())[:60]
    size = os.path.getsize(path)
    clips: list[Clip | None] = []
    for key, parts in members.items():
        codec = next((suffix for suffix in AUDIO_SUFFIXES if suffix in parts), None)
        if codec is None or "json" not in parts or any(offset + length > size for offset, length in parts.values()):
            damage = damage or f"clip {key[:60]!r} lacks a whole member"
            clips.append(None)
        else:
            clips.append(Clip(str(path), key, codec, *parts[codec], *parts["json"]))
    return Table(clips, damage)


def read_table(path: str | Path) -> list[Clip]:
    """Return the clips of a whole shard in its order. Raises ValueError with one line when anything of it is damaged."""
    table = scan_table(path)
    if table.damage:
        raise ValueError(f"shard {path} is damaged ({table.damage}); pack or download it again")
    return [clip for clip in table.clips if clip is not None]


def read_bytes(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset`. Raises ValueError when it ends earlier, OSError when it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(content) != size:
        raise ValueError(f"shard {path} ended early")
    return content


class ShardSet:
    """All clips of several sources, numbered in the order of sources, shards and members."""

    def __init__(self, entries: list[str], cache: str | Path = "", cache_gb: float = 0.0, tables_kept: int = 0) -> None:
        """Read the indexes of the entries of data.shards; at most `tables_kept` tables stay in memory (0: all).

        Raises ValueError when no entry is given, or one has no index, a damaged one, or one marked as test.
        """
        if not entries:
            raise ValueError("data.shards is empty; give a folder packed by hear_ssl.data.pack: data.shards=FOLDER")
        self.sources = [open_source(entry, cache, cache_gb) for entry in entries]
        self.shards: list[tuple[Source, ShardRecord]] = [(source, record) for source in self.sources for record in source.index.shards]
        self.first_clips = [0, *accumulate(record.clips for _, record in self.shards)]
        self.tables_kept = tables_kept
        self._tables: dict[int, Table] = {}

    def __len__(self) -> int:
        """Return the number of clips that the indexes name."""
        return self.first_clips[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Travel to a worker without the tables, which are read there as needed."""
        return {**self.__dict__, "_tables": {}}

    @property
    def indexes(self) -> list[ShardIndex]:
        """The index of every source."""
        return [source.index for source in self.sources]

    @property
    def sample_rates(self) -> set[int]:
        """The rates of the sources, in Hz."""
        return {index.sample_rate for index in self.indexes}

    @property
    def clips(self) -> list[Clip]:
        """Every clip of whole shards. Raises ValueError that names the first shard that is missing or damaged."""
        return list(self._whole())

    def _whole(self) -> Iterator[Clip]:
        for number, (source, record) in enumerate(self.shards):
            damage = source.damage(record) or self.table(number).damage
            if damage:
                raise ValueError(f"shard {source.address}/{record.name} is damaged ({damage}); pack or download it again")
            yield from (clip for clip in self.table(number).clips if clip is not None)

    def damage(self) -> dict[int, str]:
        """Return what is wrong with local shards by their sizes: shard number -> reason. Reads no shard."""
        reasons = {number: source.damage(record) for number, (source, record) in enumerate(self.shards)}
        return {number: reason for number, reason in reasons.items() if reason}

    def shard_of(self, number: int) -> int:
        """Return the shard that holds a clip."""
        return bisect.bisect_right(self.first_clips, number) - 1

    def clip(self, number: int) -> Clip:
        """Return where a clip lies. Raises ValueError that names its shard when that is missing or damaged there."""
        shard = self.shard_of(number)
        table = self.table(shard)
        place = number - self.first_clips[shard]
        clip = table.clips[place] if place < len(table.clips) else None
        if clip is None:
            raise ValueError(f"the shard is damaged ({table.damage})")
        return clip

    def table(self, shard: int) -> Table:
        """Return a shard's table; a shard of an address is fetched unless it lies in the cache. What fails is in the table."""
        if shard not in self._tables:
            if self.tables_kept and len(self._tables) >= self.tables_kept:
                del self._tables[next(iter(self._tables))]
            self._tables[shard] = self._read(*self.shards[shard])
        return self._tables[shard]

    def _read(self, source: Source, record: ShardRecord) -> Table:
        try:
            table = scan_table(source.path(record))
        except (ValueError, OSError) as error:
            return Table([], " ".join(str(error).split()))
        if len(table.clips) > record.clips or (len(table.clips) < record.clips and not table.damage):
            return Table([], f"it holds {len(table.clips)} clips, the index says {record.clips}")
        return table

    def name(self, number: int) -> str:
        """Return 'address/shard/key' of a clip for a report; the number in the shard stands for a key that cannot be read."""
        shard = self.shard_of(number)
        source, record = self.shards[shard]
        place = number - self.first_clips[shard]
        known = self._tables.get(shard, Table([])).clips[place : place + 1]
        return f"{source.address}/{record.name}/{known[0].key if known and known[0] else f'clip {place}'}"

    def audio(self, clip: Clip) -> bytes:
        """Return the encoded audio of a clip. Raises ValueError or OSError when it cannot be read."""
        return self._bytes(clip.shard, clip.offset, clip.size)

    def _bytes(self, path: str, offset: int, size: int) -> bytes:
        try:
            return read_bytes(path, offset, size)
        except FileNotFoundError:  # a bounded cache may have given it up since its table was read
            place = Path(path)
            for source, record in self.shards:
                if source.cache and source.cache.folder / record.name == place:
                    source.path(record)
                    return read_bytes(path, offset, size)
            raise

    def record(self, clip: Clip) -> dict[str, Any]:
        """Return the JSON member of a clip. Raises ValueError when it is damaged."""
        try:
            record = json.loads(self._bytes(clip.shard, clip.json_offset, clip.json_size))
        except (ValueError, RecursionError):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is damaged") from None
        if not isinstance(record, dict):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is no object")
        return record

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences, for checkpoints and model cards."""
        sources = [source for index in self.indexes for source in index.sources]
        return {
            "hours": sum(index.hours for index in self.indexes),
            "split": ", ".join(sorted({index.split for index in self.indexes})),
            "sources": [{"name": s.name, "license": s.license, "hours": s.hours, "clips": s.clips} for s in sources],
        }
