"""index.json next to the shards: their content, checked on reading.

It is one JSON object: the name of the format; sample rate, codec and split of all clips; clips, bytes, SHA-256 and seconds of each shard;
licence, hours and clips of each source; and the number of rejected files for each reason. Two more keys, for the package wids, repeat
the shards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hear_ssl.files import atomic_write
from hear_ssl.progress import counted
from hear_ssl.test_data_rule import marks_test

FORMAT = "hear_ssl.shards/1"
INDEX_NAME = "index.json"
SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.tar")
LARGEST = 10**15  # limit of any number: bytes of a shard, seconds, hertz
MOST_CLIPS = 10**9  # the order of a pass needs 8 bytes per clip
Record = TypeVar("Record")


@dataclass(frozen=True)
class ShardRecord:
    """One shard: its file name, clips, size in bytes, SHA-256 and seconds of audio."""

    name: str
    clips: int
    bytes: int
    sha256: str
    seconds: float


@dataclass(frozen=True)
class SourceRecord:
    """A source of clips: name, licence, hours, clips, and the word that suggests test data if the user stated that it is not."""

    name: str
    license: str
    hours: float
    clips: int
    not_test: str = ""


def each_once(sources: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return source records, merged by name and licence, with sums of hours and clips."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for source in sources:
        known = found.setdefault((source["name"], source["license"]), {**source, "hours": 0.0, "clips": 0})
        known["hours"] += source["hours"]
        known["clips"] += source["clips"]
        known["not_test"] = known.get("not_test") or source.get("not_test", "")
    for known in found.values():
        if not known["not_test"]:
            del known["not_test"]
    return list(found.values())


@dataclass(frozen=True)
class ShardIndex:
    """The content of index.json. audio: the suffix of the audio member if clips have several."""

    sample_rate: int
    codec: str
    split: str
    hours: float
    clips: int
    shards: tuple[ShardRecord, ...]
    sources: tuple[SourceRecord, ...]
    rejected: dict[str, int]
    audio: str = ""

    def size(self) -> str:
        """Return the numbers of clips, hours and shards as text."""
        return f"{counted(self.clips, 'clip')}, {self.hours:.2f} hours, {counted(len(self.shards), 'shard')}"


class DamagedIndexError(ValueError):
    """An index.json that exists but cannot be read."""


def check_split(split: str, where: str) -> None:
    """Raise ValueError when a split marks test data, or cannot be the beginning of a shard's name."""
    if marks_test(split):
        raise ValueError(
            f"{where} names the split {split!r}: refused by the HEAR rule 'Any existing data marked as test may not be used for training'"
        )
    if not SPLIT_NAME.fullmatch(split):
        raise ValueError(
            f"{where} names the split {split[:80]!r}; name a split by letters, digits and _, with dots and hyphens after the first"
        )


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write index.json to a folder, completely or not at all."""
    mapping = asdict(index)
    mapping["sources"] = [
        {key: value for key, value in source.items() if (key, value) != ("not_test", "")} for source in mapping["sources"]
    ]
    if not index.audio:
        del mapping["audio"]
    mapping["wids_version"] = 1  # this key and the next one are for wids.ShardListDataset
    mapping["shardlist"] = [{"url": shard.name, "nsamples": shard.clips} for shard in index.shards]
    atomic_write(folder / INDEX_NAME, json.dumps({"format": FORMAT, **mapping}, indent=1) + "\n")


def read_index(path: str | Path) -> ShardIndex:
    """Read the index of a shard folder (or the index file itself).

    Raises ValueError when there is none, it is damaged, or it names a file outside its folder.
    """
    given = Path(path)
    file = given / INDEX_NAME if given.is_dir() else given
    if not given.exists():
        raise ValueError(f"shard folder {given} does not exist; pack one with: hear-ssl pack INPUT --out {given}")
    if not file.is_file():
        raise ValueError(f"{given} has no {INDEX_NAME}: it is not a shard folder or its packing did not finish; run hear-ssl pack again")
    try:
        return parse_index(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, OSError) as error:
        raise DamagedIndexError(f"{file} is damaged ({' '.join(str(error).split())[:100]}); run hear-ssl pack again") from None


def parse_index(mapping: Any) -> ShardIndex:
    """Build a ShardIndex from parsed JSON. Raises ValueError that names what is wrong."""
    if not isinstance(mapping, dict) or mapping.get("format") != FORMAT:
        raise ValueError(f"not an index of format {FORMAT}")
    shards = tuple(_record(ShardRecord, entry, "shards") for entry in _list(mapping, "shards"))
    sources = tuple(_record(SourceRecord, entry, "sources") for entry in _list(mapping, "sources"))
    rejected = mapping.get("rejected", {})
    if not isinstance(rejected, dict) or not all(isinstance(count, int) for count in rejected.values()):
        raise ValueError("rejected is not a table of counts")
    for shard in shards:
        if not SHARD_NAME.fullmatch(shard.name):
            raise ValueError(f"{shard.name[:80]!r} is not a shard's file name")
        if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
            raise ValueError(f"the record of {shard.name} is impossible")
    plain = {key: mapping.get(key) for key in ("sample_rate", "codec", "split", "hours", "clips")} | {"audio": mapping.get("audio", "")}
    index = _record(ShardIndex, {**plain, "shards": shards, "sources": sources, "rejected": rejected}, "index")
    if index.sample_rate == 0 or index.clips != sum(shard.clips for shard in shards):
        raise ValueError("sample rate or number of clips is impossible")
    if index.clips > MOST_CLIPS:
        raise ValueError(f"it states {index.clips} clips; at most {MOST_CLIPS} can be put in order")
    return index


def _list(mapping: dict[str, Any], key: str) -> list[Any]:
    value = mapping.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    return value


def _record(kind: type[Record], entry: Any, where: str) -> Record:
    names = {item.name for item in fields(kind) if item.default is MISSING}  # type: ignore[arg-type]
    if not isinstance(entry, dict) or not names <= set(entry):
        raise ValueError(f"an entry of {where} lacks {', '.join(sorted(names - set(entry if isinstance(entry, dict) else ())))}")
    values = {}
    for name, hint in get_type_hints(kind).items():
        if name not in entry:
            continue
        value = entry[name]
        simple = hint if hint in (int, float, str) else object
        if isinstance(value, bool) or not isinstance(value, (int, float) if simple is float else simple):
            raise ValueError(f"{where}.{name} is {str(value)[:40]!r}")
        if isinstance(value, (int, float)) and not 0 <= value < LARGEST:  # nor NaN
            raise ValueError(f"{where}.{name} is {str(value)[:40]}, which cannot be")
        values[name] = value
    return kind(**values)
