"""Entries of data.shards without an index, and the list of their shards.

An entry is a folder or an address of shards without index.json, some of its shards, or `pipe:COMMAND`, a command that writes one shard;
braces in a command make several. Commands come only from a config or the command line, never from downloaded content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from braceexpand import braceexpand

from hear_ssl.addresses import joined, redacted
from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.cache import is_remote
from hear_ssl.data.shards.fetch import INDEX_LIMIT, open_index
from hear_ssl.data.shards.shard_index import INDEX_NAME, ShardIndex, check_split
from hear_ssl.data.shards.sources import MOST_SHARDS, expand, open_source
from hear_ssl.download import Download
from hear_ssl.errors import one_line
from hear_ssl.test_data_rule import RULE, marked_folder, marked_part

PIPE = "pipe:"
WEB = ("http://", "https://")


@dataclass(frozen=True)
class ShardList:
    """The shards of one entry of data.shards, to be read in sequence.

    shards: paths, addresses with their credentials, or commands. index: the index of an entry that is read in sequence although it has one.
    """

    name: str
    license: str
    split: str
    not_test: str
    shards: tuple[str, ...]
    index: ShardIndex | None = None


def is_unindexed(entry: str) -> bool:
    """Return whether an entry of data.shards has shards but no index; this may send a request to its address.

    It is False for the folder of an unfinished packing and for a silent address, for which reading the index raises a clear error.
    """
    if entry.startswith(PIPE):
        return True
    address, names = expand(entry)
    if not is_remote(address):
        folder = Path(address)
        index = folder / INDEX_NAME
        own = any(next(folder.glob(pattern), None) for pattern in ("*.clips", ".pack*"))
        own = own or (index.is_file() and not is_foreign(index.read_bytes()[:INDEX_LIMIT]))
        return not own and next(folder.glob("*.tar"), None) is not None
    try:
        with closing(Download(joined(address, INDEX_NAME), open_index)) as file:
            return is_foreign(beginning(file)) and (bool(names) or not address.startswith(WEB))
    except FileNotFoundError:
        return bool(names) or not address.startswith(WEB)
    except urllib.error.HTTPError as error:
        return bool(names) and error.code in (401, 403)  # a store's answer for a missing file, when it may not be listed
    except (OSError, ValueError):
        return False


def beginning(file: Download) -> bytes:
    """Return the content of a download, up to the largest size of an index."""
    content = bytearray()
    while len(content) < INDEX_LIMIT and (block := file.read(1 << 16)):
        content += block
    return bytes(content)


def is_foreign(content: bytes) -> bool:
    """Return whether an index.json is not ours: an object without a format, or a web page that replaces a missing file."""
    if content.lstrip()[:1] == b"<":
        return True
    try:
        mapping = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(mapping, dict) and "format" not in mapping


def shard_lists(config: DataConfig, unindexed: Sequence[str]) -> list[ShardList]:
    """Return the shards of every entry of data.shards; entries that are not in `unindexed` list them in their index.

    Raises ValueError when an entry has no shards, is marked as test data or shares a shard with another one, or when data.license and
    data.split do not fit the entries.
    """
    lists: list[ShardList] = []
    for entry in config.shards:
        if entry not in unindexed:
            source = open_source(entry, config.cache)
            folder = expand(entry)[0]
            shards = tuple(joined(folder, record.name) for record in source.index.shards)
            lists.append(ShardList(source.address, "", source.index.split, "", shards, source.index))
            continue
        place = unindexed.index(entry)
        license = _value(config.license, place, len(unindexed), "license") or "unknown"
        split = _value(config.split, place, len(unindexed), "split")
        check_split(split, "data.split")
        name, shards = named_shards(entry)
        lists.append(ShardList(name, license, split, _mark(entry, name, shards, config.not_test), shards))
    check_once(lists)
    return lists


def _value(values: Sequence[str], place: int, entries: int, key: str) -> str:
    if len(values) not in (0, 1, entries):
        raise ValueError(f"data.{key} has {len(values)} values for {entries} entries of data.shards without an index; give 1 or {entries}")
    return values[place if len(values) > 1 else 0] if values else ""


def named_shards(entry: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of an entry's source, and its shards. Raises ValueError when a shard is missing, or there is none."""
    if entry.startswith(PIPE):
        commands = tuple(islice(braceexpand(entry), MOST_SHARDS))
        return "pipe", commands
    address, names = expand(entry)
    if not is_remote(address):
        folder = Path(address)
        paths = [folder / name for name in dict.fromkeys(names)] or sorted(folder.glob("*.tar"))
        missing = next((path for path in paths if not path.is_file()), None)
        if missing:
            raise ValueError(f"data.shards: {missing} does not exist; name shards that do, or their folder alone")
        return folder.resolve().name, tuple(map(str, paths))
    parts = urlsplit(redacted(address))
    name = parts.path.rstrip("/").rpartition("/")[2] or parts.netloc
    if names:
        return name, tuple(joined(address, name) for name in dict.fromkeys(names))
    return name, _listed(address)


def _listed(address: str) -> tuple[str, ...]:
    """Return the shards in a remote folder that fsspec can list."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(address)
        found = sorted(store.unstrip_protocol(file) for file in store.ls(path, detail=False) if str(file).endswith(".tar"))
    except FileNotFoundError:
        found = []
    except Exception as error:  # clients of stores raise errors of any class
        raise ValueError(
            f"data.shards: {redacted(address)} cannot be listed ({one_line(error)[:120]}); name its shards by braces"
        ) from None
    if not found:
        raise ValueError(f"{redacted(address)} is not there, or holds no .tar shards; give the address of a folder of shards")
    return tuple(found)


def _mark(entry: str, name: str, shards: Sequence[str], not_test: Sequence[str]) -> str:
    """Return the word that suggests test data if the user stated that it is not, or ''. Raises ValueError when the user did not."""
    if entry.startswith(PIPE):
        mark = marked_part(re.split(r"[\s/]", entry[len(PIPE) :]))
    else:
        parts = urlsplit(redacted(entry)) if is_remote(entry) else None
        web = entry.startswith(WEB)
        folders = [*([] if web else [parts.netloc]), *parts.path.split("/")] if parts else []
        mark = marked_part(folders) or ("" if parts else marked_folder(name))
        mark = mark or marked_part(redacted(shard).partition("?")[0].rpartition("/")[2].removesuffix(".tar") for shard in shards)
    if mark and name not in not_test:
        raise ValueError(f"data.shards: {redacted(entry)} contains {mark!r}: {RULE}; if it is not test data, set data.not_test={name}")
    return mark


def check_once(lists: Sequence[ShardList]) -> None:
    """Raise ValueError that names a shard in two entries: its clips would come twice per pass."""
    seen = set()
    for shard in (shard for listed in lists for shard in listed.shards):
        place = shard if is_remote(shard) else os.path.realpath(shard)
        if place in seen:
            raise ValueError(f"data.shards holds {redacted(shard)} twice; name each shard once (data.weights weighs one entry more)")
        seen.add(place)


def fingerprint(lists: Sequence[ShardList]) -> str:
    """Return the SHA-256 of a description of the shards: addresses without credentials, names and sizes of local shards."""
    found = hashlib.sha256()
    for shard in (shard for listed in lists for shard in listed.shards):
        line = redacted(shard) if is_remote(shard) else f"{os.path.basename(shard)} {os.path.getsize(shard)}"
        found.update(f"{line}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
