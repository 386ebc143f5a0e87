"""What there is to pack: audio files in files, folders, tar and zip archives and lists, in a stable order.

Archives are never extracted: members are read in place. Links, devices, absolute names, names that climb out with `..`
and members that unpack to far more than they occupy are rejected by name, not followed.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hear_ssl.data.shards.shard_index import check_split
from hear_ssl.errors import one_line
from hear_ssl.safe_tar import open_tar, tar_members

AUDIO_SUFFIXES = {".aif", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav"}
UNREAD = re.compile(  # sound, or films with sound, that libsndfile does not read
    r"\.(3gp|aac|ac3|alac|amr|ape|dff|dsf|dts|eac3|m4a|m4b|mka|mkv|mov|mp4|mpc|oma|ra|spx|tak|tta|webm|wma|wv)"
)
MAX_MEMBER_BYTES = 4 * 2**30
MAX_EXPANSION = 200
LONGEST_NAME = 4096  # characters of a member's name
NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for a byte of a file's name are text
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", ".tar", *COMPRESSED_TARS)


@dataclass(frozen=True)
class Item:
    """One audio file: where it lies and what is known of it.

    archive is the kind of archive that holds it ('' for a plain file); name is its path relative to the input, or the
    member name; offset and size are its place in the archive. refused is the reason why it must not be read, '' when it
    may. copy counts the files of one source and name, which two folders or two members may share.
    """

    path: str
    name: str
    source: str
    license: str
    split: str
    archive: str = ""
    offset: int = 0
    size: int = 0
    refused: str = ""
    copy: int = 0


def list_items(inputs: list[str], license: str, split: str) -> list[Item]:
    """Return every audio file of the inputs, sorted by source and name; those of formats that are not read are refused.

    Raises ValueError when an input is missing or nothing is found, when a list is malformed, or when a split is no name or
    marks test data, which may not be used for training (HEAR rules).
    """
    check_split(split, "--split")
    items: list[Item] = []
    for given in inputs:
        items += _one_input(Path(given), license, split)
    if not items:
        raise ValueError(f"no audio files in {', '.join(inputs)}; formats read: {', '.join(sorted(s[1:] for s in AUDIO_SUFFIXES))}")
    items.sort(key=lambda item: (item.source, item.name, item.path, item.offset))
    return _numbered([_readable(item) for item in items])


def _readable(item: Item) -> Item:
    return replace(item, name=printable(item.name), source=printable(item.source), license=printable(item.license))


def printable(name: str) -> str:
    """Return a file's name in valid UTF-8 on one line: bytes that are none, tabs and the ends of lines are written out."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _numbered(items: list[Item]) -> list[Item]:
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for item in items:
        place = (item.source, item.name, item.split)
        numbered.append(replace(item, copy=seen[place]))
        seen[place] += 1
    return numbered


def _one_input(path: Path, license: str, split: str) -> list[Item]:
    if path.is_dir():
        return list(_from_folder(path, license, split))
    if not path.exists():
        raise ValueError(f"input {path} does not exist; give a file, folder, tar or zip archive, or a CSV or JSONL list")
    name = path.name.lower()
    if name.endswith((".csv", ".jsonl")):
        return list(_from_list(path, license, split))
    if name.endswith(".zip"):
        return list(_from_zip(path, license, split))
    if name.endswith((".tar", *COMPRESSED_TARS)):
        return list(_from_tar(path, license, split))
    return [Item(str(path), path.name, path.resolve().parent.name, license, split)]


def _from_folder(path: Path, license: str, split: str) -> Iterator[Item]:
    source = path.resolve().name
    for file in sorted(path.rglob("*")):
        reason = _not_read(file.name)
        if reason is not None and (file.is_file() or not file.exists()):  # a link that leads nowhere is named as unreadable
            yield Item(str(file), file.relative_to(path).as_posix(), source, license, split, refused=reason)


def _from_list(path: Path, license: str, split: str) -> Iterator[Item]:
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where} is no JSON object; give one a line, with a path and optionally license, split, source")
        given = _text(row, "path", where)
        if not given:
            raise ValueError(f"{where} has no path; the columns are path and optionally license, split, source")
        file = path.parent / given
        row_split = _text(row, "split", where) or split
        check_split(row_split, where)
        source = _text(row, "source", where) or file.resolve().parent.name
        row_license = _text(row, "license", where) or _text(row, "licence", where) or license
        yield Item(str(file), given, source, row_license, row_split)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each entry of a list with the number of its line. Raises ValueError that names the line that cannot be read."""
    number = 1
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(io.StringIO(text, newline=""))
            if reader.fieldnames:
                number = reader.line_num + 1
            for row in reader:
                yield reader.line_num, row
                number = reader.line_num + 1
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, json.loads(line)
    except (ValueError, RecursionError, csv.Error) as error:
        if isinstance(error, UnicodeDecodeError):
            number += error.object.count(b"\n", 0, error.start)
        reason = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{path}, line {number} is not readable ({reason}); give CSV with a header line, or one JSON object a line"
        ) from None


def _text(row: dict[str, Any], key: str, where: str) -> str:
    """Return an entry's text of a key, '' when it has none. Raises ValueError when it is no text, or none that a file can hold."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or NO_TEXT.search(value):
        raise ValueError(f"{where}: {key} is {value!r:.60}; give plain text")
    return value


def unsafe_name(name: str) -> bool:
    """Return whether a member's name is absolute or climbs out of its folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]


def _not_read(name: str) -> str | None:
    """Return why a file with sound in it is not read, '' when it is; None for a file that is no sound."""
    suffix = PurePosixPath(name).suffix.lower()
    if name.lower().endswith(ARCHIVES):
        return "archive within an input: give it by itself"
    if suffix in AUDIO_SUFFIXES:
        return ""
    return f"format not read: {suffix}" if UNREAD.fullmatch(suffix) else None


def _from_zip(path: Path, license: str, split: str) -> Iterator[Item]:
    source = path.name[: -len(".zip")]
    try:
        with zipfile.ZipFile(path) as archive:
            left = MAX_EXPANSION * max(os.path.getsize(path), 1024)  # for all members together, which may share their bytes
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                refused = _not_read(info.filename)
                if info.is_dir() or refused is None:
                    continue
                left -= info.file_size
                if unsafe_name(info.filename) or stat.S_ISLNK(info.external_attr >> 16):
                    refused = "unsafe member name or link"
                elif left < 0 or info.file_size > min(MAX_MEMBER_BYTES, MAX_EXPANSION * max(info.compress_size, 1024)):
                    refused = "unpacks to far more than it occupies"
                yield Item(str(path), info.filename, source, license, split, "zip", info.header_offset, info.file_size, refused)
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError) as error:  # sizes and places beyond the file
        raise ValueError(f"archive {path} is damaged ({one_line(error)[:80]}); fetch it again") from None


def _from_tar(path: Path, license: str, split: str) -> Iterator[Item]:
    source = path.name.split(".tar")[0].removesuffix(".tgz").removesuffix(".tbz2").removesuffix(".txz")
    kind = "packed tar" if path.name.lower().endswith(COMPRESSED_TARS) else "tar"
    try:
        with open_tar(path) as archive:
            for member in tar_members(archive, path):
                refused = _not_read(member.name)
                if member.isdir() or refused is None:
                    continue
                name = member.name
                if not member.isreg() or unsafe_name(name) or len(name) > LONGEST_NAME:
                    refused, name = "unsafe member name or link", name[:LONGEST_NAME]
                elif member.issparse():
                    refused = "sparse member"
                elif member.size > MAX_MEMBER_BYTES:
                    refused = f"larger than {MAX_MEMBER_BYTES >> 30} GB"
                yield Item(str(path), name, source, license, split, kind, member.offset_data, member.size, refused)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, OverflowError, UnicodeError) as error:
        raise ValueError(f"archive {path} is damaged ({one_line(error)[:60]}); fetch it again") from None
