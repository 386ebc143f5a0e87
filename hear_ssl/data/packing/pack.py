"""Pack audio files into WebDataset shards that training can resume on.

    python -m hear_ssl.data.pack INPUT... --out DIR

Stopped at any moment, the same command resumes; the shards come out the same, byte for byte, with any number of workers. When a
shard has been damaged or removed since, the same command packs all of them again.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.archives import packing_order
from hear_ssl.data.packing.clips import Packed, PackOptions, pack_item
from hear_ssl.data.packing.inputs import Item, printable
from hear_ssl.data.packing.shard_writer import REJECTED_NAME, EncodedClip, check_free, write_shard
from hear_ssl.data.shards.clip_offsets import load_clip_offsets, write_clip_offsets
from hear_ssl.data.shards.shard_index import ShardIndex, ShardRecord, SourceRecord, write_index
from hear_ssl.files import atomic_write, sha256_of

STATE_NAME = ".pack.json"


@dataclass
class PackState:
    """How far packing came; saved after every shard."""

    fingerprint: str
    next_item: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    rejected: list[list[Any]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    finished: bool = False


def pack(
    items: list[Item], out: Path, options: PackOptions, clips_per_shard: int = 512, workers: int = 1, progress: bool = False
) -> ShardIndex:
    """Pack files into shards under `out` and return the index, which is written last.

    Raises ValueError when `out` holds another packing or no clip is left, FileExistsError when it holds shards of another
    command, OSError when the disk is full; shards that are finished stay, and the same call resumes after them.
    """
    split = one_split(items)
    state = _load_state(out, items, options, clips_per_shard)
    _save_state(out, state)  # before the first shard: what lies in the folder from now on is this packing's own
    items = packing_order(items)  # shards should be alike: a shard of one source makes a batch of one source
    results = in_order(partial(pack_item, options=options), items[state.next_item :], workers)
    known, pending = set(state.hashes), []
    before = len(known)
    every = 0.1 if sys.stderr.isatty() else 30.0  # seconds between updates: a log file wants few
    with tqdm(total=len(items), initial=state.next_item, unit="file", desc="packing", disable=not progress, mininterval=every) as bar:
        for number, packed in enumerate(results, start=state.next_item):
            pending += _accept(packed, items[number], state, known)
            rate = (len(known) - before) / max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{len(known)} clips, {rate:.0f} clips/s", refresh=False)
            bar.update()
            if pending and (len(pending) >= clips_per_shard or number + 1 == len(items)):
                record = write_shard(out / f"{split}-{len(state.shards):06d}.tar", pending)
                state.shards.append(asdict(record))
                pending, state.next_item = [], number + 1
                _save_state(out, state)
    return _finish(out, state, options, split, len(items))


def one_split(items: list[Item]) -> str:
    """Return the split of all files. Raises ValueError when they belong to several."""
    splits = sorted({item.split for item in items})
    if len(splits) > 1:
        raise ValueError(f"the files belong to the splits {', '.join(splits)}; pack each split into its own folder")
    return splits[0]


def _load_state(out: Path, items: list[Item], options: PackOptions, clips_per_shard: int) -> PackState:
    fingerprint = _fingerprint(items, options, clips_per_shard)
    path = out / STATE_NAME
    if not path.is_file():
        check_free(out)
        return PackState(fingerprint)
    try:
        state = PackState(**json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged; remove {out} and pack again") from None
    if state.shards and state.fingerprint != fingerprint:
        raise ValueError(f"{out} was packed from other files or with other options; give another folder with --out, or remove it")
    for part in out.glob(".*.????????.part"):  # what a packing that was killed left half written
        part.unlink()
    damaged = _damaged(out, state)
    if damaged:
        print(f"{out / damaged} is missing or not as it was packed: packing from the beginning", file=sys.stderr)
    return state if state.shards and not damaged else PackState(fingerprint)


def _fingerprint(items: list[Item], options: PackOptions, clips_per_shard: int) -> str:
    """Return a hash of all that the shards follow from; sizes and times stand for the bytes of the files."""
    files = {}
    for path in sorted({item.path for item in items}):
        with contextlib.suppress(OSError, ValueError):  # rejected as unreadable when its turn comes
            found = os.stat(os.fsencode(path))
            files[printable(path)] = (found.st_size, found.st_mtime_ns)
    places = [(item.source, item.name, item.license, item.split, files.get(printable(item.path))) for item in items]
    return hashlib.sha256(json.dumps([places, asdict(options), clips_per_shard]).encode()).hexdigest()


def _damaged(out: Path, state: PackState) -> str:
    """Return the first shard that is missing, has another size or, of a finished packing, other bytes; '' when all are whole."""
    for shard in (ShardRecord(**record) for record in state.shards):
        path = out / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes or (state.finished and sha256_of(path) != shard.sha256):
            return shard.name
    return ""


def _save_state(out: Path, state: PackState) -> None:
    atomic_write(out / STATE_NAME, json.dumps(asdict(state)))


def _accept(packed: Packed, item: Item, state: PackState, known: set[str]) -> list[EncodedClip]:
    """Return the clips that are new; count them by source, and what was rejected by reason."""
    accepted: list[EncodedClip] = []
    place = printable(f"{item.path}/{item.name}" if item.archive else item.path)
    state.rejected += [[place, item.source, offset, reason] for offset, reason in packed.rejected]
    for clip in packed.clips:
        if clip.audio_hash in known:
            state.rejected.append([place, item.source, clip.record["offset_seconds"], "duplicate"])
            continue
        known.add(clip.audio_hash)
        state.hashes.append(clip.audio_hash)
        row = state.sources.setdefault(f"{item.source}\t{item.license}", {"seconds": 0.0, "clips": 0})
        row["seconds"] += clip.record["seconds"]
        row["clips"] += 1
        accepted.append(clip)
    return accepted


def _finish(out: Path, state: PackState, options: PackOptions, split: str, items: int) -> ShardIndex:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "source", "offset_seconds", "reason"])
    writer.writerows(state.rejected)
    atomic_write(out / REJECTED_NAME, text.getvalue())
    if not state.shards:
        raise ValueError(f"none of the files can be used; {out / REJECTED_NAME} says why, file by file")
    shards = tuple(ShardRecord(**record) for record in state.shards)
    for shard in shards:  # a table that was removed is written again
        if load_clip_offsets(out / shard.name, shard.sha256) is None:
            write_clip_offsets(out / shard.name, shard.sha256)
    sources = []
    for key, row in sorted(state.sources.items()):
        name, _, license = key.partition("\t")
        sources.append(SourceRecord(name, license, round(row["seconds"] / 3600.0, 6), row["clips"]))
    reasons = Counter(reason.partition(":")[0] for *_, reason in state.rejected)
    seconds = sum(shard.seconds for shard in shards)
    clips = sum(shard.clips for shard in shards)
    index = ShardIndex(options.sample_rate, options.codec, split, round(seconds / 3600.0, 6), clips, shards, tuple(sources), dict(reasons))
    write_index(out, index)
    state.finished, state.next_item = True, items
    _save_state(out, state)
    return index
