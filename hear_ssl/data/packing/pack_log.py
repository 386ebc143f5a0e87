"""The state of a packing: a log with one line per shard, so that the cost of saving does not grow with the packing.

.pack.log contains a header line, then one entry per shard. A line is a CRC-32 and a JSON object. A killed process may leave an
incomplete last line, which is removed; its shard is packed again. The list of rejected files is only in the log, not in memory.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hear_ssl.data.shards.shard_index import SHARD_NAME, ShardRecord
from hear_ssl.files import atomic_write, disk_errors_of, read_json

LOG_NAME = ".pack.log"
OLD_NAME = ".pack.json"  # of hear_ssl before 0.3: the whole state, rewritten after every shard
FORMAT = "hear_ssl.pack/2"
HASH_BYTES = 20
Row = list[Any]  # of rejected.csv: path, source, offset in seconds, reason


@dataclass
class Entry:
    """One line: a shard, its clips by source, their hashes, rejected files, and the position at which packing resumes."""

    next_item: int
    inside: int = 0  # outcomes of that file that are done
    shards: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    rejected: list[Row] = field(default_factory=list)
    hashes: str = ""  # hex digests, concatenated
    places: list[str] = field(default_factory=list)  # of each clip's file, if parts will be merged
    finished: bool = False


@dataclass
class PackState:
    """The sum of all entries, with hashes as bytes and rejected files as counts per reason."""

    header: dict[str, Any]
    next_item: int = 0
    inside: int = 0
    shards: list[ShardRecord] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    hashes: set[bytes] = field(default_factory=set)
    finished: bool = False

    def add(self, entry: Entry) -> None:
        """Add an entry. During a packing, the hashes are known before the shard is written."""
        self.next_item, self.inside, self.finished = entry.next_item, entry.inside, entry.finished
        self.shards += [ShardRecord(**record) for record in entry.shards]
        add_sources(self.sources, entry.sources)
        self.reasons.update(map(reason_kind, entry.rejected))
        self.hashes.update(split_hashes(entry.hashes))


def reason_kind(row: Row) -> str:
    """Return the kind of the reason why a file was rejected."""
    return str(row[3]).partition(":")[0]


def add_sources(total: dict[str, dict[str, Any]], more: dict[str, dict[str, Any]]) -> None:
    """Add seconds and clips of sources to those of others in place."""
    for key, row in more.items():
        known = total.setdefault(key, {"seconds": 0.0, "clips": 0})
        known["seconds"] += row["seconds"]
        known["clips"] += row["clips"]
        if row.get("not_test"):
            known["not_test"] = row["not_test"]


def split_hashes(text: str) -> list[bytes]:
    """Return the hashes of an entry. Raises ValueError when they are invalid."""
    content = bytes.fromhex(text)
    return [content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)]


def start_log(folder: Path, header: dict[str, Any], entries: Iterable[Entry] = ()) -> None:
    """Write a new log to a folder, replacing any other one."""
    lines = [{"format": FORMAT, **header}, *map(_plain, entries)]
    atomic_write(folder / LOG_NAME, b"".join(map(_line, lines)))
    (folder / OLD_NAME).unlink(missing_ok=True)


def append(folder: Path, entry: Entry) -> None:
    """Append an entry to the log of a folder and flush it to disk. Raises OSError when the disk is full."""
    with disk_errors_of(folder / LOG_NAME), open(folder / LOG_NAME, "ab") as file:
        file.write(_line(_plain(entry)))
        file.flush()
        os.fsync(file.fileno())


def _plain(entry: Entry) -> dict[str, Any]:
    """Return an entry without empty values."""
    return {key: value for key, value in vars(entry).items() if value or key == "next_item"}


def _line(value: dict[str, Any]) -> bytes:
    content = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def read_state(folder: Path) -> PackState:
    """Return the state of the packing in a folder that has a log. Raises ValueError when it is damaged."""
    state = PackState(read_header(folder))
    for entry in entries(folder):
        state.add(entry)
    return state


def read_header(folder: Path) -> dict[str, Any]:
    """Return the header of the log of a folder. Raises ValueError when it is damaged, OSError when there is none."""
    first = next(_lines(folder), (0, None))[1]
    if not isinstance(first, dict) or first.get("format") != FORMAT or not isinstance(first.get("fingerprint"), str):
        raise _damaged(folder / LOG_NAME)
    return {key: value for key, value in first.items() if key != "format"}


def entries(folder: Path) -> Iterator[Entry]:
    """Yield the entries of a folder's log up to the last complete one. Raises ValueError when an earlier one is damaged."""
    for number, (_, line) in enumerate(_lines(folder)):
        if number:
            yield _entry(line, folder / LOG_NAME)


def cut_torn_line(folder: Path) -> None:
    """Truncate the log of a folder after its last complete line."""
    end = max((end for end, _ in _lines(folder)), default=0)
    if end < (folder / LOG_NAME).stat().st_size:
        os.truncate(folder / LOG_NAME, end)


def _lines(folder: Path) -> Iterator[tuple[int, Any]]:
    """Yield end offset and object of each complete line. Raises ValueError when an incomplete line is not the last one."""
    end, torn = 0, False
    with open(folder / LOG_NAME, "rb") as file:
        for line in file:
            if torn:
                raise _damaged(folder / LOG_NAME)
            content = line[9:-1]
            torn = line[:9] != b"%08x " % zlib.crc32(content) or line[-1:] != b"\n"
            if not torn:
                end += len(line)
                try:
                    value = json.loads(content)
                except (ValueError, RecursionError):
                    raise _damaged(folder / LOG_NAME) from None
                yield end, value


def _entry(value: Any, path: Path) -> Entry:
    try:
        entry = Entry(**value)
        add_sources({}, entry.sources)
        sound = (
            isinstance(entry.next_item, int)
            and isinstance(entry.inside, int)
            and all(SHARD_NAME.fullmatch(ShardRecord(**record).name) for record in entry.shards)
            and all(len(row) == 4 and isinstance(row[3], str) for row in entry.rejected)
            and len(split_hashes(entry.hashes)) == sum(record["clips"] for record in entry.shards)
            and len(entry.places) in (0, len(entry.hashes) // HASH_BYTES // 2)
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        sound = False
    if not sound:
        raise _damaged(path)
    return entry


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged; remove {path.parent} and pack again")


def take_over(folder: Path, header: dict[str, Any]) -> bool:
    """Return whether a folder has a log; a state saved by an older version is converted, with its fingerprint in the header.

    Raises ValueError when that state is damaged.
    """
    path = folder / OLD_NAME
    if (folder / LOG_NAME).is_file() or not path.is_file():
        return (folder / LOG_NAME).is_file()
    try:
        old = read_json(path)
        fingerprint, hashes = str(old.pop("fingerprint")), "".join(old.pop("hashes"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _damaged(path) from None
    start_log(folder, {**header, "fingerprint": fingerprint}, [_entry({**old, "hashes": hashes}, path)])
    return True
