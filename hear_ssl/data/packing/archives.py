"""Read the members of archives in linear time.

Every process keeps the archives that it reads open. A member of a compressed tar can only be read after unpacking all members before
it, and a row of a parquet file only with its row group. Such members are therefore packed in their order in the archive, between other
files that are shuffled.
"""

from __future__ import annotations

import lzma
import os
import random
import tarfile
import zipfile
import zlib
from collections import defaultdict, deque
from functools import lru_cache

from hear_ssl.data.packing import parquet
from hear_ssl.data.packing.item import Item

KEPT_OPEN = 32  # archives; each needs a file handle and, if xz, about 10 MB
PARQUETS_OPEN = 4  # each may need the memory of a row group, about 100 MB
SEQUENTIAL = {"packed tar": KEPT_OPEN, parquet.KIND: PARQUETS_OPEN}  # most that are read at a time


def is_sequential(item: Item) -> bool:
    """Return whether a file is in an archive that is read sequentially."""
    return item.archive in SEQUENTIAL


def packing_order(items: list[Item]) -> list[Item]:
    """Return the items in a fixed random order, but the items of a sequential archive in the order of the archive.

    At most `SEQUENTIAL[kind]` archives of a kind are read at a time.
    """
    items = items.copy()
    random.Random(0).shuffle(items)
    for kind, together in SEQUENTIAL.items():
        places = [place for place, item in enumerate(items) if item.archive == kind]
        turns = [items[place].path for place in places]  # the archive whose next member comes at each place
        number = {path: order for order, path in enumerate(dict.fromkeys(turns))}
        turns.sort(key=lambda path: number[path] // together)
        members: dict[str, deque[Item]] = defaultdict(deque)
        for item in sorted((items[place] for place in places), key=lambda item: item.offset):
            members[item.path].append(item)
        for place, path in zip(places, turns, strict=True):
            items[place] = members[path].popleft()
    return items


def read_item(item: Item) -> bytes:
    """Return the encoded bytes of an archive member. Raises ValueError or OSError when it cannot be read."""
    if item.archive == parquet.KIND:
        return _opened_parquet(item.path, os.stat(item.path).st_mtime_ns).read(item.offset)
    try:
        content = _read_member(item)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
        KeyError,
        OverflowError,
    ) as error:
        raise ValueError(f"the archive is damaged there ({str(error)[:60]})") from None
    if len(content) != item.size:
        raise ValueError("the archive ends early or lies about its size")
    return content


def _read_member(item: Item) -> bytes:
    if item.archive == "zip":
        archive, members = _opened_zip(item.path, os.stat(item.path).st_mtime_ns)
        with archive.open(members[item.offset]) as file:
            return file.read(item.size + 1)
    if item.archive == "tar":
        with open(item.path, "rb") as plain:
            plain.seek(item.offset)
            return plain.read(item.size)
    unpacked = _opened_tar(item.path, os.stat(item.path).st_mtime_ns).fileobj
    assert unpacked is not None
    unpacked.seek(item.offset)
    return unpacked.read(item.size)


@lru_cache(KEPT_OPEN)
def _opened_zip(path: str, changed: int) -> tuple[zipfile.ZipFile, dict[int, zipfile.ZipInfo]]:
    """Return an open zip archive with this modification time, and its members by the offsets of their headers."""
    archive = zipfile.ZipFile(path)
    return archive, {info.header_offset: info for info in archive.infolist()}


@lru_cache(PARQUETS_OPEN)
def _opened_parquet(path: str, changed: int) -> parquet.ParquetRows:
    return parquet.ParquetRows(path)


@lru_cache(KEPT_OPEN)
def _opened_tar(path: str, changed: int) -> tarfile.TarFile:
    return tarfile.open(path, "r:*")  # its headers were checked when its members were listed
