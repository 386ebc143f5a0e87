"""Random access into tar shards: a table of where each clip lies, and reads of just those bytes.

Headers are walked by the tar format's own block structure (POSIX.1-1988 ustar); nothing is extracted. A table is built
once per shard and is small: 100,000 clips take about 20 MB.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_ssl.data.index import TEST_MARKS, ShardIndex, check_shards, read_index
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


def read_table(path: str | Path) -> list[Clip]:
    """Return the clips of a shard in its order.

    Raises ValueError with one line when the tar is damaged or truncated, or a clip lacks a member.
    """
    members: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar_members(tar):
                if member.isreg():
                    key, _, suffix = member.name.partition(".")
                    members.setdefault(key, {})[suffix.lower()] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"shard {path} is damaged ({str(error)[:60]}); pack or download it again") from None
    size, clips = os.path.getsize(path), []
    for key, parts in members.items():
        codec = next((suffix for suffix in AUDIO_SUFFIXES if suffix in parts), None)
        if codec is None or "json" not in parts or any(offset + length > size for offset, length in parts.values()):
            raise ValueError(f"shard {path} is damaged (clip {key[:60]!r} lacks a whole member); pack or download it again")
        clips.append(Clip(str(path), key, codec, *parts[codec], *parts["json"]))
    return clips


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
    """All clips of several shard folders, numbered in the order of folders, shards and members."""

    def __init__(self, folders: list[str]) -> None:
        """Read the indexes and the table of every shard.

        Raises ValueError when no folder is given, one has no index, a shard is missing or damaged, sample rates differ,
        or the data is marked as test.
        """
        if not folders:
            raise ValueError("data.shards is empty; give a folder packed by hear_ssl.data.pack: data.shards=FOLDER")
        self.indexes: dict[str, ShardIndex] = {folder: read_index(folder) for folder in folders}
        self.clips: list[Clip] = []
        for folder, index in self.indexes.items():
            check_shards(folder, index)
            if index.split.strip().lower() in TEST_MARKS:
                raise ValueError(
                    f"{folder} is marked as {index.split}; HEAR rule: existing data marked as test may not be used for training"
                )
            for shard in index.shards:
                table = read_table(Path(folder) / shard.name)
                if len(table) != shard.clips:
                    raise ValueError(f"{folder}/{shard.name} holds {len(table)} clips, the index says {shard.clips}; pack it again")
                self.clips += table
        self.sample_rates = {index.sample_rate for index in self.indexes.values()}

    def audio(self, clip: Clip) -> bytes:
        """Return the encoded audio of a clip."""
        return read_bytes(clip.shard, clip.offset, clip.size)

    def record(self, clip: Clip) -> dict[str, Any]:
        """Return the JSON member of a clip. Raises ValueError when it is damaged."""
        try:
            record = json.loads(read_bytes(clip.shard, clip.json_offset, clip.json_size))
        except (ValueError, RecursionError):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is damaged") from None
        if not isinstance(record, dict):
            raise ValueError(f"the JSON of clip {clip.key} in {clip.shard} is no object")
        return record

    def data_card(self) -> dict[str, Any]:
        """Return hours, split and sources with licences, for checkpoints and model cards."""
        sources = [source for index in self.indexes.values() for source in index.sources]
        return {
            "hours": sum(index.hours for index in self.indexes.values()),
            "split": ", ".join(sorted({index.split for index in self.indexes.values()})),
            "sources": [{"name": s.name, "license": s.license, "hours": s.hours, "clips": s.clips} for s in sources],
        }
