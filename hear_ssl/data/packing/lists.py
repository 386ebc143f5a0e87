"""File lists of corpora: CSV and TSV with a header, JSON and JSONL (NeMo, Hugging Face), fairseq's tsv, plain text.

Columns: a path (see PATHS) and optionally license, split, source. Paths are relative to the folder of the list, in a fairseq list to
the folder in its first line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hear_ssl.data.packing.file_kinds import AUDIO_SUFFIXES, UNREAD
from hear_ssl.data.packing.item import Item
from hear_ssl.data.shards.shard_index import check_split
from hear_ssl.test_data_rule import marked_folder, marked_part, marks_test

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
LIST_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, ".txt", ".lst", ".list")
FAIRSEQ = re.compile(r"[^\t\n]+\t\d+\s*(\n|$)")  # a file and its number of samples, after a line with the folder
PATHS = (
    *("path", "audio_filepath", "file_name", "filename", "wav", "audio_path", "audio_file", "file_path", "filepath", "wav_path"),
    *("wav_filename", "audio", "audio_filename"),
)
LICENSES, SPLITS = ("license", "licence"), ("split", "subset")
COLUMNS = f"the columns are path (or {', '.join(PATHS[1:5])}, ...) and optionally license, split, source"
NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")  # surrogates that represent a byte of a file name are allowed
Row = dict[str, Any]


def from_list(path: Path, license: str, split: str, left: Counter[str]) -> Iterator[Item]:
    """Yield the files in a list, only those of `split` if it has a column of splits; `left` counts the other rows.

    Raises ValueError that names the line when the list is malformed, or has no row of the split.
    """
    rows = RowsOfSplit(path, split)
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where} is not a JSON object; give one a line, with a path and optionally license, split, source")
        row = {str(key).strip().lower(): value for key, value in row.items()}
        given = row_text(row, PATHS, where)
        if not given:
            raise ValueError(f"{where} has no path; {COLUMNS}")
        row_split = row_text(row, SPLITS, where)
        if not rows.take(row_split, where):
            continue
        file = _found(path.parent, given)
        source = row_text(row, ("source",), where) or file.resolve().parent.name
        mark = "" if row_split else marked_part([path.stem]) or _mark_above(path, given)
        yield Item(str(file), given, source, row_text(row, LICENSES, where) or license, split, marked=mark)
    rows.end(left)


class RowsOfSplit:
    """Select the rows of one split and those without a split; count the others."""

    def __init__(self, path: Path, split: str) -> None:
        self.path, self.split, self.taken = path, split, 0
        self.others: Counter[str] = Counter()

    def take(self, row_split: str, where: str) -> bool:
        """Return whether a row is selected. Raises ValueError that names its position when its split is not a valid name."""
        if not row_split or row_split.strip().lower() == self.split.lower():
            self.taken += 1
            return True
        if not marks_test(row_split):
            check_split(row_split, where)
        self.others[row_split] += 1
        return False

    def end(self, left: Counter[str]) -> None:
        """Count the rows that were not selected in `left`. Raises ValueError when none was selected."""
        if self.others and not self.taken:
            if all(map(marks_test, self.others)):
                check_split(next(iter(self.others)), str(self.path))
            names = ", ".join(f"{name} ({count})" for name, count in self.others.most_common(5))
            usable = next(name for name in self.others if not marks_test(name))
            raise ValueError(f"{self.path} has no row of the split {self.split!r}, but of {names}; choose one, such as --split {usable}")
        for name, count in self.others.items():
            left[f"rows of the split {name}"] += count


def _mark_above(path: Path, given: str) -> str:
    """Return the marked folder between an absolute path and the folder that it shares with its list, or ''."""
    if not os.path.isabs(given):
        return ""
    shared = os.path.commonpath([os.path.abspath(path.parent), os.path.dirname(given)])
    return next(filter(None, map(marked_folder, Path(os.path.relpath(given, shared)).parts[:-1])), "")


def _found(folder: Path, given: str) -> Path:
    """Return the path of a file: below the list's folder, in its `clips` as in Common Voice, or with Windows separators."""
    choices = [folder / given, folder / "clips" / given, folder / given.replace("\\", "/")]
    return next((choice for choice in choices if os.path.lexists(choice)), choices[0])


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each entry of a list with its line number. Raises ValueError that names an unreadable line."""
    number = 1
    try:
        content = path.read_bytes()
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
        for number, row in _json_rows(text) if path.suffix.lower() in JSON_SUFFIXES else _table_rows(text, path):
            if isinstance(row, Exception):
                raise row
            yield number, row
    except (ValueError, RecursionError, csv.Error) as error:
        if str(error).startswith(str(path)):  # raised by the code that uses the entries
            raise
        number += content[: error.start].count(b"\n") if isinstance(error, UnicodeDecodeError) and not wide else 0
        reason = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{path}, line {number} is not readable ({reason}); give CSV with a header line, or one JSON object a line"
        ) from None


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the objects of a JSON array, or of one JSON object per line; an error is yielded as the entry of its line."""
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, list) and all(isinstance(row, dict) for row in whole) and whole:
            yield from enumerate(whole, start=1)
            return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, error
            return


def _table_rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Return the entries of a table with a header and any separator, of fairseq's tsv, or of a plain list."""
    first, _, rest = text.partition("\n")
    if "\t" not in first.rstrip() and FAIRSEQ.match(rest):
        root = path.parent / first.strip()
        return ((number, {**row, "path": str(root / row["path"])}) for number, row in _plain_rows(rest, 2))
    for separator in (",", "\t", ";", "|"):
        header = next(csv.reader([first.rstrip("\r")], delimiter=separator), [])
        if {name.strip().lower() for name in header} & set(PATHS):
            return _csv_rows(text, separator)
    if any(_is_sound(row["path"]) for _, row in _plain_rows(text, 1)) and not _is_table(path, first):
        return _plain_rows(text, 1)
    rows = list(_csv_rows(text, max(",\t;|", key=first.count)))
    return iter(rows or [(1, {})] if first.strip() else rows)


def _is_table(path: Path, first: str) -> bool:
    """Return whether a file is a table by its suffix, but with a header without a path column."""
    return path.suffix.lower() in (".csv", ".tsv") and not any(map(_is_sound, re.split(r"[,;\t|]", first.strip())))


def _csv_rows(text: str, separator: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    number = 2
    try:
        for row in reader:
            yield reader.line_num, row
            number = reader.line_num + 1
    except csv.Error as error:
        yield number, error


def _plain_rows(text: str, number: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the first column of each line that is not empty; lines are counted from `number`."""
    for line, content in enumerate(text.split("\n"), start=number):
        if content.strip():
            yield line, {"path": content.strip("\r").split("\t")[0].strip()}


def _is_sound(name: str) -> bool:
    suffix = PurePosixPath(name.strip().strip('"').replace("\\", "/")).suffix.lower()
    return suffix in AUDIO_SUFFIXES or bool(UNREAD.fullmatch(suffix))


def row_text(row: Row, keys: tuple[str, ...], where: str) -> str:
    """Return the text of the first of `keys` that an entry has, or ''.

    Raises ValueError when it is not text, or not text that a file can contain.
    """
    for key in keys:
        value = row.get(key)
        value = value.get("path") if isinstance(value, dict) and key == "audio" else value
        if value is not None and (not isinstance(value, str) or NO_TEXT.search(value)):
            raise ValueError(f"{where}: {key} is {value!r:.60}; give plain text")
        if value:
            return str(value)
    return ""
