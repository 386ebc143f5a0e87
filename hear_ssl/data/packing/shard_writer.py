"""Write WebDataset shards with webdataset's writer: their bytes depend only on their clips, and incomplete shards never appear."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hear_ssl.data.shards.clip_offsets import write_clip_offsets
from hear_ssl.data.shards.shard_index import INDEX_NAME, ShardIndex, ShardRecord, SourceRecord, write_index
from hear_ssl.files import atomic_path, remove_parts, sha256_of
from hear_ssl.folder_lock import OUT_BUSY, folder_lock

CLIPS_PER_SHARD = 500  # of rendered audio
REJECTED_NAME = "rejected.csv"  # written by pack next to the shards


@dataclass(frozen=True)
class EncodedClip:
    """One clip for a shard: key without dots, codec (the member's suffix), encoded audio, JSON record."""

    key: str
    codec: str
    audio: bytes
    record: dict[str, Any]


def check_free(folder: Path) -> None:
    """Raise FileExistsError when a folder contains shards, an index or a list of rejected files, which would be overwritten."""
    for pattern in (INDEX_NAME, "*.tar", REJECTED_NAME):
        found = next(folder.glob(pattern), None)
        if found:
            raise FileExistsError(f"{found} exists: give another folder, or remove it first if an earlier run left it")


def write_shard(path: Path, clips: Iterable[EncodedClip]) -> ShardRecord:
    """Write a shard with its clip offsets and return its record for the index. Raises OSError when the disk is full."""
    from webdataset import TarWriter  # loads slowly

    count, seconds = 0, 0.0
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file, TarWriter(file, mtime=0, encoder=False) as tar:
            for clip in clips:
                text = json.dumps(clip.record, sort_keys=True).encode()
                tar.write({"__key__": clip.key, clip.codec: clip.audio, "json": text})
                count += 1
                seconds += clip.record["seconds"]
        shard = ShardRecord(path.name, count, temporary.stat().st_size, sha256_of(temporary), round(seconds, 3))
    write_clip_offsets(path, shard.sha256)
    return shard


def write_shards(folder: Path, split: str, clips: Iterable[EncodedClip], count: int, clips_per_shard: int) -> tuple[ShardRecord, ...]:
    """Write `count` clips as SPLIT-000000.tar and so on, `clips_per_shard` in each, and return their records for the index."""
    stream = iter(clips)
    numbers = range(-(-count // clips_per_shard))
    return tuple(write_shard(folder / f"{split}-{number:06d}.tar", islice(stream, clips_per_shard)) for number in numbers)


def write_rendered(
    folder: Path, clips: Iterable[EncodedClip], count: int, sample_rate: int, codec: str, split: str, source: str, license: str
) -> ShardIndex:
    """Write `count` clips of one source and licence as shards with an index to a folder, created if needed; return the index.

    Raises FolderBusyError when another process writes there, FileExistsError when the folder contains shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder, OUT_BUSY):
        check_free(folder)
        remove_parts(folder)
        shards = write_shards(folder, split, clips, count, CLIPS_PER_SHARD)
        hours, total = sum(shard.seconds for shard in shards) / 3600.0, sum(shard.clips for shard in shards)
        index = ShardIndex(sample_rate, codec, split, hours, total, shards, (SourceRecord(source, license, hours, total),), {})
        write_index(folder, index)
        return index
