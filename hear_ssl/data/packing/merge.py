"""Merge the parts of a packing into one folder of shards, without the clips that several parts contain.

A clip that an earlier part also contains is a duplicate: its shard is rewritten without it. All other shards are hard links to the
shards of the parts, or copies where the file system has no links, so that merging needs little space and time. After an interruption,
the same call starts again and gives the same bytes. The parts are not changed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.folders import PART_FOLDER
from hear_ssl.data.packing.pack import index_of, write_rejected
from hear_ssl.data.packing.pack_log import Entry, PackState, Row, add_sources, entries, read_state, split_hashes
from hear_ssl.data.packing.part_of import PartOf
from hear_ssl.data.packing.shard_writer import REJECTED_NAME, EncodedClip, check_free, write_shard
from hear_ssl.data.shards.clip_offsets import Clip, load_clip_offsets, read_bytes, read_clips, write_clip_offsets
from hear_ssl.data.shards.shard_index import ShardIndex, ShardRecord, write_index
from hear_ssl.files import atomic_path, atomic_write, read_json, remove_parts
from hear_ssl.folder_lock import OUT_BUSY, folder_lock

MERGE_NAME = ".merge.json"  # lists the parts whose shards were merged
NAMED = 10  # parts in an error


@dataclass
class Part:
    """A finished part: its folder and the sum of its log."""

    folder: Path
    state: PackState


@dataclass
class Merged:
    """The state of a merge: hashes of all clips, shards, and counts of duplicates."""

    hashes: set[bytes] = field(default_factory=set)
    shards: list[ShardRecord] = field(default_factory=list)
    less: dict[str, dict[str, Any]] = field(default_factory=dict)  # clips and seconds of duplicates, by source
    duplicates: int = 0


def merge(folder: Path) -> ShardIndex:
    """Merge the parts in a folder into that folder and return the index, which is written last.

    Raises ValueError when parts are missing, unfinished, damaged or of different packings, FileExistsError when the folder holds
    shards of another command, OSError when the disk is full.
    """
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist; give the folder that pack --part wrote to with --out")
    with folder_lock(folder, OUT_BUSY):
        parts = finished_parts(folder)
        _claim(folder, parts)
        merged, split = Merged(), str(parts[0].state.header["split"])
        write_rejected(folder / REJECTED_NAME, _merge_parts(folder, split, parts, merged))
        if not merged.shards:
            raise ValueError(f"none of the files can be used; {folder / REJECTED_NAME} gives the reason for each file")
        rows: dict[str, dict[str, Any]] = {}
        reasons = sum((part.state.reasons for part in parts), start=Counter[str]())
        for part in parts:
            add_sources(rows, part.state.sources)
        for key, row in merged.less.items():
            rows[key]["seconds"], rows[key]["clips"] = rows[key]["seconds"] - row["seconds"], rows[key]["clips"] - row["clips"]
        reasons["duplicate"] += merged.duplicates
        rows = {key: row for key, row in rows.items() if row["clips"]}
        index = index_of(PackOptions(**parts[0].state.header["options"]), split, merged.shards, rows, +reasons)
        write_index(folder, index)
        return index


def finished_parts(folder: Path) -> list[Part]:
    """Return all parts in a folder in order. Raises ValueError that names parts that are missing, unfinished or of another packing."""
    counts = sorted({int(name[2]) for path in folder.iterdir() if (name := PART_FOLDER.fullmatch(path.name)) and path.is_dir()})
    if not counts:
        raise ValueError(f"{folder} has no parts; pack them first: hear-ssl pack INPUT --out {folder} --part 1/N and so on")
    if len(counts) > 1:
        raise ValueError(f"{folder} has parts of {' and of '.join(map(str, counts))}; remove those of another packing")
    wanted = [PartOf(number, counts[0]) for number in range(1, counts[0] + 1)]
    found = {part: _read_part(folder / part.folder, part) for part in wanted if (folder / part.folder).is_dir()}
    lacking = [str(part) for part in wanted if found.get(part) is None]
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        raise ValueError(f"parts missing or not finished in {folder}: {', '.join(lacking[:NAMED])}{more}; run pack --part for each again")
    parts = [part for part in found.values() if part]
    for part in parts:
        header = part.state.header
        if any(header.get(key) != parts[0].state.header.get(key) for key in ("inputs", "split", "options")):
            raise ValueError(f"{part.folder} was packed from other files or with other options than {parts[0].folder}; pack it again")
        for shard in part.state.shards:
            path = part.folder / shard.name
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise ValueError(f"{path} is missing or not as it was packed; run pack --part for {part.folder.name} again")
    return parts


def _read_part(folder: Path, part: PartOf) -> Part | None:
    """Return the part in a folder, or None when it is not finished.

    Raises FolderBusyError when it is being packed, ValueError when the folder contains another part than its name states.
    """
    with folder_lock(folder, "wait for its packing to end"):
        try:
            state = read_state(folder)
        except FileNotFoundError:
            return None
    state.hashes.clear()  # read again with each shard, so that they are in memory once
    if state.header.get("part") != list(part):
        raise ValueError(f"{folder} has another part than its name states; remove it and run pack --part {part} again")
    return Part(folder, state) if state.finished else None


def _claim(folder: Path, parts: list[Part]) -> None:
    """Record that a folder's shards come from these parts. Raises ValueError or FileExistsError when it has other shards."""
    mark = [part.state.header["fingerprint"] for part in parts]
    path = folder / MERGE_NAME
    if not path.is_file():
        check_free(folder)
        atomic_write(path, json.dumps(mark))
    elif read_json(path) != mark:
        raise ValueError(f"{folder} has shards that were merged from other parts; remove its index.json, *.tar, *.clips and {MERGE_NAME}")
    remove_parts(folder)  # incomplete files of a killed merge


def _merge_parts(folder: Path, split: str, parts: list[Part], merged: Merged) -> Iterator[Row]:
    """Write the shards of all parts; yield the rows of rejected.csv."""
    for part in parts:
        for entry in entries(part.folder):
            yield from entry.rejected
            for record in entry.shards:
                yield from _merge_shard(folder / f"{split}-{len(merged.shards):06d}.tar", part, ShardRecord(**record), entry, merged)


def _merge_shard(target: Path, part: Part, shard: ShardRecord, entry: Entry, merged: Merged) -> Iterator[Row]:
    """Write a shard without duplicates, if any clip remains, and yield a row for each duplicate."""
    source = part.folder / shard.name
    twice = []
    for number, digest in enumerate(split_hashes(entry.hashes)):
        if digest in merged.hashes:
            twice.append(number)
        merged.hashes.add(digest)
    if not twice:
        merged.shards.append(_same_shard(source, target, shard))
        return
    clips = read_clips(source)
    for number in twice:
        record = _record(clips[number])
        add_sources(merged.less, {f"{record['source']}\t{record['license']}": {"seconds": record["seconds"], "clips": 1}})
        merged.duplicates += 1
        yield [entry.places[number], record["source"], record["offset_seconds"], "duplicate"]
    left = [clip for number, clip in enumerate(clips) if number not in set(twice)]
    if left:
        merged.shards.append(write_shard(target, map(_encoded, left)))


def _same_shard(source: Path, target: Path, shard: ShardRecord) -> ShardRecord:
    """Link a shard and its clip offsets under another name; return its record for the index."""
    _link(source, target)
    if load_clip_offsets(source, shard.sha256) is None:
        write_clip_offsets(target, shard.sha256)
    else:
        _link(source.with_suffix(".clips"), target.with_suffix(".clips"))
    return ShardRecord(target.name, shard.clips, shard.bytes, shard.sha256, shard.seconds)


def _link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if that is impossible."""
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links, or a limit to them; a full disk fails again below
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _record(clip: Clip) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(read_bytes(clip.shard, clip.json_offset, clip.json_size))
    return record


def _encoded(clip: Clip) -> EncodedClip:
    return EncodedClip(clip.key, clip.codec, read_bytes(clip.shard, clip.offset, clip.size), _record(clip))
