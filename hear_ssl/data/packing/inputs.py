"""List the audio files to pack, in files, folders, tar and zip archives and lists, in a stable order.

Archives are never extracted: members are read in place. Links, devices, absolute names, names that leave the archive by `..`
and members with an extreme compression ratio are rejected with their names. Data that the name of a folder, archive or list marks as
test data are refused (HEAR rules).
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from hear_ssl.data.packing import parquet
from hear_ssl.data.packing.file_kinds import (
    AUDIO_SUFFIXES,
    COMPRESSED_TARS,
    begins_as_sound,
    holds_no_sound,
    is_leftover,
    not_read,
    suffix_of,
    unread_archive,
)
from hear_ssl.data.packing.folders import walk
from hear_ssl.data.packing.item import Item, printable
from hear_ssl.data.packing.lists import LIST_SUFFIXES, from_list
from hear_ssl.data.packing.split_zip import check_whole_zip
from hear_ssl.data.shards.shard_index import check_split
from hear_ssl.errors import one_line
from hear_ssl.safe_tar import open_tar, tar_members
from hear_ssl.test_data_rule import RULE, marked_folder, marked_part

MAX_MEMBER_BYTES = 4 * 2**30
MAX_EXPANSION = 200
LEFT = "files that operating systems leave behind"
LONGEST_NAME = 4096  # characters in a member's name


def list_items(
    inputs: list[str], license: str, split: str, out: str = "", not_test: Iterable[str] = (), left: Counter[str] | None = None
) -> list[Item]:
    """Return all audio files of the inputs, sorted by source and name; files of unsupported formats are marked as refused.

    Of a list with a column of splits, only the rows of `split` are used. Files in the output folder `out` are not inputs.
    Files marked as test data are refused unless their source is in `not_test`. `left` counts skipped files: files without audio by
    suffix, and system files.

    Raises ValueError when an input is missing, marked as test data or without files, when a list is malformed, or when a split is not
    a valid name or marks test data, which may not be used for training (HEAR rules).
    """
    check_split(split, "--split")
    passed: Counter[str] = Counter() if left is None else left
    stated = set(not_test)
    items: list[Item] = []
    for given in inputs:
        found = list(_one_input(Path(given), license, split, Path(out) if out else None, passed))
        mark = _input_mark(Path(given), found[0]) if found else ""
        items += [_checked(item, given, mark, stated) for item in found]
    if not items:
        raise ValueError(f"no audio files in {', '.join(inputs)}; formats read: {', '.join(sorted(s[1:] for s in AUDIO_SUFFIXES))}")
    sources = {item.source for item in items}
    if stated - sources:
        raise ValueError(f"--not-test {min(stated - sources)!r} is not a source here; there are {', '.join(sorted(sources)[:5])}")
    marked = next((item for item in items if item.marked and item.refused), None)
    if marked and all(item.refused for item in items):
        raise ValueError(_refusal(printable(marked.path), marked.marked, marked.source))
    items.sort(key=lambda item: (item.source, item.name, item.path, item.offset))
    return _numbered([_readable(item) for item in items])


def _input_mark(path: Path, first: Item) -> str:
    """Return the part of an input's path that marks it as test data, or ''; `first` is one of its items."""
    parent = os.path.basename(os.path.dirname(os.path.abspath(path)))
    typed = "" if path.is_absolute() else marked_part(path.parts[:-1])
    if path.is_dir():
        return (
            typed or marked_folder(path.resolve().name) or marked_folder(os.path.basename(os.path.abspath(path))) or marked_folder(parent)
        )
    if first.archive:
        return typed or marked_part([path.name.partition(".tar")[0].removesuffix(parquet.SUFFIX)]) or marked_folder(parent)
    if path.name.lower().endswith(LIST_SUFFIXES):
        return typed or (first.marked if first.marked == path.stem else "")
    return typed or marked_folder(path.resolve().parent.name)


def _checked(item: Item, given: str, mark: str, not_test: set[str]) -> Item:
    """Return an item, refused when a folder in its path is marked as test data. Raises ValueError when its input is marked (`mark`)."""
    if mark and item.source not in not_test:
        raise ValueError(_refusal(given, mark, item.source))
    mark = mark or item.marked or _mark_inside(item.name.replace("\\", "/").rpartition("/")[0])
    if not mark or item.source in not_test:
        return replace(item, marked=mark) if mark else item
    return replace(item, marked=mark, refused=item.refused or f"test data: its path contains {mark!r} (HEAR rule); see --not-test")


@lru_cache(1000)
def _mark_inside(folder: str) -> str:
    """Return the marked part of a folder inside an input; for an absolute path, its list finds the mark."""
    return "" if folder.startswith("/") else marked_part(folder.split("/"))


@lru_cache(1000)
def _mark_of_link(folder: Path) -> str:
    """Return the name of the real folder when that is marked as test data, otherwise ''."""
    return marked_part([os.path.basename(os.path.realpath(folder))])


def _refusal(where: str, mark: str, source: str) -> str:
    return f"{where} contains {mark!r}: {RULE}; if it is not test data, add --not-test {source!r}"


def _readable(item: Item) -> Item:
    return replace(item, name=printable(item.name), source=printable(item.source), license=printable(item.license))


def _numbered(items: list[Item]) -> list[Item]:
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for item in items:
        place = (item.source, item.name, item.split)
        numbered.append(replace(item, copy=seen[place]))
        seen[place] += 1
    return numbered


def _one_input(path: Path, license: str, split: str, out: Path | None, left: Counter[str]) -> Iterator[Item]:
    if path.is_dir():
        return _named(_from_folder(path, license, split, out, left), left)
    if not path.exists():
        raise ValueError(
            f"input {path} does not exist; give a file, folder, tar or zip archive, parquet file, or a CSV, TSV, JSON or text list"
        )
    name = path.name.lower()
    if name.endswith(LIST_SUFFIXES):
        return from_list(path, license, split, left)
    if name.endswith(".zip"):
        return _named(_from_zip(path, license, split), left)
    if name.endswith((".tar", *COMPRESSED_TARS)):
        return _named(_from_tar(path, license, split), left)
    if name.endswith(parquet.SUFFIX):
        return parquet.from_parquet(path, license, split, left)
    if unread_archive(name):
        raise ValueError(f"{path} is an archive of a kind that is not read ({unread_archive(name)}); unpack it and give the folder")
    return iter([Item(str(path), path.name, path.resolve().parent.name, license, split)])


def _named(items: Iterator[Item], left: Counter[str]) -> Iterator[Item]:
    """Yield audio files and possible audio files; count system files and files without audio.

    Files with other suffixes, or without one, are refused, with one item per suffix.
    """
    unknown: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if is_leftover(item.name):
            left[LEFT] += 1
        elif item.refused == "?" and holds_no_sound(item.name):
            left[suffix_of(item.name)] += 1
        elif item.refused == "?":
            unknown[suffix_of(item.name)].append(item)
        else:
            yield item
    for suffix, group in sorted(unknown.items()):
        first = min(group, key=lambda item: item.name)
        yield replace(first, refused=f"unknown kind of file: {len(group)} {suffix}, this is the first")


def _from_folder(path: Path, license: str, split: str, out: Path | None, left: Counter[str]) -> Iterator[Item]:
    source = path.resolve().name
    for file in walk(path, out, left):
        reason = not_read(file.name)
        if reason is None:
            reason = "" if begins_as_sound(file.path) and not holds_no_sound(file.name) else "?"
        linked = _mark_of_link(file.path.parent) if file.path.parent != path else ""
        yield Item(str(file.path), file.name, source, license, split, refused=file.refused or reason, marked=linked)


def unsafe_name(name: str) -> bool:
    """Return whether a member's name is absolute or leaves its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]


def _not_read(name: str) -> str:
    reason = not_read(name)
    return "?" if reason is None else reason


def _from_zip(path: Path, license: str, split: str) -> Iterator[Item]:
    source = path.name[: -len(".zip")]
    check_whole_zip(path)
    try:
        with zipfile.ZipFile(path) as archive:
            left = MAX_EXPANSION * max(os.path.getsize(path), 1024)  # in sum, since members may share their bytes
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                refused = _not_read(info.filename)
                if info.is_dir():
                    continue
                left -= 0 if refused else info.file_size
                if refused != "?" and (unsafe_name(info.filename) or stat.S_ISLNK(info.external_attr >> 16)):
                    refused = "unsafe member name or link"
                elif not refused and (left < 0 or info.file_size > min(MAX_MEMBER_BYTES, MAX_EXPANSION * max(info.compress_size, 1024))):
                    refused = "unpacks to far more than it occupies"
                yield Item(str(path), info.filename, source, license, split, "zip", info.header_offset, info.file_size, refused)
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError) as error:  # sizes and offsets beyond the file
        raise ValueError(f"archive {path} is damaged ({one_line(error)[:80]}); fetch it again") from None


def _from_tar(path: Path, license: str, split: str) -> Iterator[Item]:
    source = path.name.split(".tar")[0].removesuffix(".tgz").removesuffix(".tbz2").removesuffix(".txz")
    kind = "packed tar" if path.name.lower().endswith(COMPRESSED_TARS) else "tar"
    try:
        with open_tar(path) as archive:
            for member in tar_members(archive, path):
                refused = _not_read(member.name)
                if member.isdir():
                    continue
                name = member.name
                if len(name) > LONGEST_NAME or (refused != "?" and (not member.isreg() or unsafe_name(name))):
                    refused, name = "unsafe member name or link", name[:LONGEST_NAME]
                elif not refused and member.issparse():
                    refused = "sparse member"
                elif not refused and member.size > MAX_MEMBER_BYTES:
                    refused = f"larger than {MAX_MEMBER_BYTES >> 30} GB"
                yield Item(str(path), name, source, license, split, kind, member.offset_data, member.size, refused)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, OverflowError, UnicodeError) as error:
        raise ValueError(f"archive {path} is damaged ({one_line(error)[:60]}); fetch it again") from None
