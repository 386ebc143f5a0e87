"""Pack audio files into WebDataset shards that training can resume on.

    hear-ssl pack INPUT ... --out DIR

After an interruption, the same command resumes. The bytes of the shards do not depend on interruptions or the number of workers. When
a finished shard was damaged or removed, the same command packs all shards again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hear_ssl.data.packing.archives import packing_order
from hear_ssl.data.packing.clips import Outcome, PackedClip, PackOptions
from hear_ssl.data.packing.item import Item, printable
from hear_ssl.data.packing.pack_log import (
    Entry,
    PackState,
    Row,
    add_sources,
    append,
    cut_torn_line,
    entries,
    read_state,
    reason_kind,
    start_log,
    take_over,
)
from hear_ssl.data.packing.part_of import PartOf
from hear_ssl.data.packing.sections import packed_parts
from hear_ssl.data.packing.shard_writer import REJECTED_NAME, check_free, write_shard
from hear_ssl.data.shards.clip_offsets import load_clip_offsets, write_clip_offsets
from hear_ssl.data.shards.shard_index import ShardIndex, ShardRecord, SourceRecord, write_index
from hear_ssl.files import atomic_path, remove_parts, sha256_of
from hear_ssl.folder_lock import OUT_BUSY, folder_lock

MOST_REJECTED = 1000  # save the state after this many rejected files when no clip is waiting for its shard


def pack(
    items: list[Item],
    out: Path,
    options: PackOptions,
    clips_per_shard: int = 512,
    workers: int = 1,
    progress: bool = False,
    part: PartOf | None = None,
) -> ShardIndex:
    """Pack files, or one part of them, into shards under `out` and return the index, which is written last.

    Raises ValueError when `out` contains another packing or there is no usable clip, FileExistsError when it contains shards of another
    command, OSError when the disk is full; finished shards are kept, and the same call resumes after them.
    """
    header: dict[str, Any] = {**fingerprints(items, options, clips_per_shard, part), "split": one_split(items)}
    header |= {"options": asdict(options), "part": list(part) if part else None}
    if part:
        out, items = out / part.folder, part.share(items)
    with folder_lock(out, OUT_BUSY):
        packer = Packer(
            packing_order(items), out, options, header, clips_per_shard
        )  # shuffled, so that every shard has clips of all sources
        packer.run(workers, progress)
        return packer.finish()


def one_split(items: list[Item]) -> str:
    """Return the split of all files. Raises ValueError when they belong to several."""
    splits = sorted({item.split for item in items})
    if len(splits) > 1:
        raise ValueError(f"the files belong to the splits {', '.join(splits)}; pack each split into its own folder")
    return splits[0]


class Packer:
    """A packing in progress in a locked folder: its saved state, and the clips for the next shard."""

    def __init__(self, items: list[Item], out: Path, options: PackOptions, header: dict[str, Any], clips_per_shard: int) -> None:
        self.items, self.out, self.options, self.clips_per_shard = items, out, options, clips_per_shard
        self.state = load_state(out, header)
        self.split, self.in_parts = header["split"], header["part"] is not None
        self._wait()

    def _wait(self) -> None:
        """Begin the next shard."""
        self.pending: list[PackedClip] = []
        self.entry = Entry(self.state.next_item, self.state.inside)

    def run(self, workers: int, progress: bool) -> None:
        """Pack everything that the saved state does not contain."""
        known, items = self.state.hashes, self.items
        before, start = len(known), self.state.next_item
        parts = packed_parts(items, self.options, workers, start, self.state.inside)
        every = 0.1 if sys.stderr.isatty() else 30.0  # seconds between updates; few for a log file
        with tqdm(total=len(items), initial=start, unit="file", desc="packing", disable=not progress, mininterval=every) as bar:
            for part in parts:
                for number, outcome in enumerate(part.outcomes, start=part.first + 1):
                    self.take(outcome, items[part.item])
                    ended = part.last and number == part.first + len(part.outcomes)
                    self.entry.next_item, self.entry.inside = (part.item + 1, 0) if ended else (part.item, number)
                    if len(self.pending) == self.clips_per_shard or (not self.pending and len(self.entry.rejected) == MOST_REJECTED):
                        self._save()
                rate = (len(known) - before) / max(bar.format_dict["elapsed"], 1e-9)
                bar.set_postfix_str(f"{len(known)} clips, {rate:.0f} clips/s", refresh=False)
                bar.update(part.last)
        if self.pending:
            self._save()

    def take(self, outcome: Outcome, item: Item) -> None:
        """Add a new clip to the next shard and count it by source; record a rejection."""
        place = printable(f"{item.path}/{item.name}" if item.archive else item.path)
        if not isinstance(outcome, PackedClip):
            self.entry.rejected.append([place, item.source, outcome.offset_seconds, outcome.reason])
            return
        digest = bytes.fromhex(outcome.audio_hash)
        if digest in self.state.hashes:
            self.entry.rejected.append([place, item.source, outcome.record["offset_seconds"], "duplicate"])
            return
        self.state.hashes.add(digest)
        row = {"seconds": outcome.record["seconds"], "clips": 1} | ({"not_test": item.marked} if item.marked else {})
        add_sources(self.entry.sources, {f"{item.source}\t{item.license}": row})
        self.entry.places += [place] if self.in_parts else []
        self.pending.append(outcome)

    def _save(self) -> None:
        """Write the pending clips as a shard, if there are any, and record it in the log."""
        if self.pending:
            self.save_record(write_shard(self.out / f"{self.split}-{len(self.state.shards):06d}.tar", self.pending))
        else:
            self._note()

    def save_record(self, shard: ShardRecord) -> None:
        """Record the shard to which the pending clips were written."""
        self.entry.shards = [asdict(shard)]
        self.entry.hashes = "".join(clip.audio_hash for clip in self.pending)
        self._note()

    def _note(self) -> None:
        """Append everything since the last entry to the log."""
        append(self.out, self.entry)
        self.state.add(self.entry)
        self._wait()

    def finish(self) -> ShardIndex:
        """Write the list of rejected files, then the index, and return the index. Raises ValueError when there is no clip."""
        if not self.state.finished:
            self.entry.next_item, self.entry.inside, self.entry.finished = len(self.items), 0, bool(self.state.shards) or self.in_parts
            self.state.reasons.update(reason_kind(row) for row in self.entry.rejected)
        write_rejected(self.out / REJECTED_NAME, chain((row for entry in entries(self.out) for row in entry.rejected), self.entry.rejected))
        if not self.state.shards and not self.in_parts:
            raise ValueError(f"none of the files can be used; {self.out / REJECTED_NAME} gives the reason for each file")
        for shard in self.state.shards:  # write clip offsets again if they were removed
            if load_clip_offsets(self.out / shard.name, shard.sha256) is None:
                write_clip_offsets(self.out / shard.name, shard.sha256)
        index = index_of(self.options, self.split, self.state.shards, self.state.sources, self.state.reasons)
        write_index(self.out, index)
        if not self.state.finished:
            append(self.out, self.entry)
        return index


def load_state(out: Path, header: dict[str, Any]) -> PackState:
    """Return the state of the packing in a folder, or of a new one, which is saved before the first shard.

    From then on the files in the folder belong to this packing. Raises ValueError when the folder has another packing.
    """
    state = PackState(header)
    if take_over(out, header):
        found = read_state(out)
        if found.shards and found.header["fingerprint"] != header["fingerprint"]:
            raise ValueError(f"{out} was packed from other files or with other options; give another folder with --out, or remove it")
        remove_parts(out)  # incomplete files of a killed packing
        damaged = _damaged(out, found)
        if damaged:
            print(f"{out / damaged} is missing or not as it was packed: packing from the beginning", file=sys.stderr)
        if not damaged and found.header["fingerprint"] == header["fingerprint"]:
            cut_torn_line(out)
            return found
    else:
        check_free(out)
    start_log(out, header)
    return state


def _damaged(out: Path, state: PackState) -> str:
    """Return the first shard that is missing, has another size or, if the packing is finished, other bytes; '' when all are intact."""
    for shard in state.shards:
        path = out / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes or (state.finished and sha256_of(path) != shard.sha256):
            return shard.name
    return ""


def fingerprints(items: list[Item], options: PackOptions, clips_per_shard: int, part: PartOf | None) -> dict[str, str]:
    """Return hashes of everything that determines the shards, with sizes and times instead of the content of the files.

    `fingerprint` is for this packing; `inputs` is the same for all parts, without locations and times of the files.
    """
    own, common = hashlib.sha256(b"[["), hashlib.sha256()
    stated = lru_cache(1024)(_size_and_time)  # the members of an archive are consecutive
    for number, item in enumerate(items):
        file = stated(item.path)
        place: list[Any] = [item.source, item.name, item.license, item.split, file]
        place += [item.marked, item.refused] if item.marked else []
        own.update((", " if number else "").encode() + json.dumps(place).encode())
        common.update(json.dumps([*place[:4], file[0] if file else None, item.copy, item.refused]).encode())
    rest = f"{json.dumps(asdict(options))}, {clips_per_shard}]"
    own.update(f"], {rest}".encode())
    common.update(rest.encode())
    fingerprint = own.hexdigest()
    if part:
        fingerprint = hashlib.sha256(f"{fingerprint} {part}".encode()).hexdigest()
    return {"fingerprint": fingerprint, "inputs": common.hexdigest()}


def _size_and_time(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(os.fsencode(path))
    except (OSError, ValueError):  # rejected as unreadable when its turn comes
        return None
    return found.st_size, found.st_mtime_ns


def write_rejected(path: Path, rows: Iterable[Row]) -> None:
    """Write the list of rejected files row by row."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "offset_seconds", "reason"])
        writer.writerows(rows)


def index_of(
    options: PackOptions, split: str, shards: list[ShardRecord], rows: dict[str, dict[str, Any]], reasons: Mapping[str, int]
) -> ShardIndex:
    """Return the index of shards; `rows` has their clips and seconds by source and licence."""
    sources = []
    for key, row in sorted(rows.items()):
        name, _, license = key.partition("\t")
        sources.append(SourceRecord(name, license, round(row["seconds"] / 3600.0, 6), row["clips"], row.get("not_test", "")))
    hours, clips = round(sum(shard.seconds for shard in shards) / 3600.0, 6), sum(shard.clips for shard in shards)
    return ShardIndex(options.sample_rate, options.codec, split, hours, clips, tuple(shards), tuple(sources), dict(reasons))
