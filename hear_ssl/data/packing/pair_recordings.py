"""Pair recordings of the same source, whose file names differ only in a number, as positives for data.positives=pairs.

    python -m hear_ssl.data.pair_recordings SHARDS --out FOLDER --except 'asterisk*' '*music*'

Libraries of sound effects and samples number the recordings of one source: wolf-die-1.ogg, wolf-die-2.ogg. Two such recordings
share their source and differ in everything else, which no augmentation of one recording can imitate. FOLDER/pairs contains the
clips that have a partner, each with the key of the next one; FOLDER/others contains all other clips, so that data.weights can
mix the two. SHARDS are read, never changed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hear_ssl.data.packing.shard_writer import EncodedClip, check_free, write_shards
from hear_ssl.data.shards.clip_offsets import Clip
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, write_index
from hear_ssl.files import remove_parts
from hear_ssl.folder_lock import OUT_BUSY, folder_lock

CLIPS_PER_SHARD = 512
NUMBER = re.compile(r"[-_. ]*\d+[a-z]?$")  # at the end of a lower-case name without suffix
SHORTEST_NAME = 2  # files called 1.wav, 2.wav are not recordings of one source
PACKED: dict[str, type | tuple[type, ...]] = {"source": str, "path": str, "license": str, "seconds": (int, float)}
Records = dict[str, dict[str, Any]]


def pairs_of(records: Records, excluded: list[str]) -> dict[str, str]:
    """Return {key: key of the partner} for clips given by {key: record}, except sources that match a pattern.

    The partner is the next recording of the same source; the first follows the last. The clips of a long recording are paired with those
    of the next one, in order.
    """
    groups: dict[tuple[str, str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, record in sorted(records.items()):
        source, path = record["source"], record["path"]
        folder, _, file = path.rpartition("/")
        name = NUMBER.sub("", file.rpartition(".")[0].lower())
        if len(name) >= SHORTEST_NAME and not any(fnmatch(source, pattern) for pattern in excluded):
            groups[source, folder, name][path].append(key)
    pairs: dict[str, str] = {}
    for group in groups.values():
        recordings = [group[path] for path in sorted(group)]
        for own, following in zip(recordings, [*recordings[1:], recordings[0]], strict=True):
            if own is not following:
                pairs |= {key: following[place % len(following)] for place, key in enumerate(own)}
    return pairs


def write_pairs(shards: ShardSet, out: Path, excluded: list[str]) -> dict[str, ShardIndex]:
    """Write OUT/pairs and OUT/others and return their indexes.

    Raises ValueError when shards are damaged, are incompatible (`read_records`) or contain no two recordings of one source,
    FileExistsError when OUT contains shards.
    """
    with folder_lock(out, OUT_BUSY):
        for name in ("pairs", "others"):
            check_free(out / name)
        return _write_pairs(shards, out, excluded)


def _write_pairs(shards: ShardSet, out: Path, excluded: list[str]) -> dict[str, ShardIndex]:
    clips, records = shards.clips, read_records(shards)
    pairs = pairs_of(records, excluded)
    if not pairs:
        raise ValueError(
            "no two clips are recordings of one source: their names differ in more than a number, or --except leaves all of them out"
        )
    parts = {"pairs": [clip for clip in clips if clip.key in pairs], "others": [clip for clip in clips if clip.key not in pairs]}
    return {name: write_part(shards, part, records, pairs, out / name) for name, part in parts.items() if part}


def read_records(shards: ShardSet) -> Records:
    """Return {key: record} of all clips.

    Raises ValueError when folders differ in rate, codec or split or share a key, or when a record lacks a key of hear_ssl.data.pack.
    """
    for what in ("sample_rate", "codec", "split"):
        values = sorted({str(getattr(index, what)) for index in shards.indexes})
        if len(values) > 1:
            raise ValueError(f"the folders differ in their {what.replace('_', ' ')} ({', '.join(values)}); pair them one by one")
    records: Records = {}
    for clip in tqdm(shards.clips, unit="clip", desc="reading names"):
        record = shards.record(clip)
        for name, kind in PACKED.items():
            if not isinstance(record.get(name), kind):
                raise ValueError(f"clip {clip.key} in {clip.shard} has no {name} in its JSON; pack its recording by hear_ssl.data.pack")
        if clip.key in records:
            raise ValueError(f"two clips have the key {clip.key}, one of them in {clip.shard}; give each folder once")
        records[clip.key] = record
    return records


def write_part(shards: ShardSet, clips: list[Clip], records: Records, pairs: dict[str, str], folder: Path) -> ShardIndex:
    """Write clips with their pairs as shards with an index, and return the index."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_parts(folder)

    def encoded() -> Iterator[EncodedClip]:
        for clip in tqdm(clips, unit="clip", desc=f"writing {folder.name}"):
            pair = {"pair": pairs[clip.key]} if clip.key in pairs else {}
            yield EncodedClip(clip.key, clip.codec, shards.audio(clip), records[clip.key] | pair)

    written = write_shards(folder, shards.indexes[0].split, encoded(), len(clips), CLIPS_PER_SHARD)
    seconds: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for clip in clips:
        place = records[clip.key]["source"], records[clip.key]["license"]
        seconds[place] += records[clip.key]["seconds"]
        counts[place] += 1
    stated = {(source.name, source.license): source.not_test for index in shards.indexes for source in index.sources}
    sources = tuple(
        SourceRecord(*place, round(seconds[place] / 3600.0, 6), counts[place], stated.get(place, "")) for place in sorted(counts)
    )
    hours = round(sum(seconds.values()) / 3600.0, 6)
    index = replace(shards.indexes[0], hours=hours, clips=len(clips), shards=written, sources=sources, rejected={})
    write_index(folder, index)
    return index
