"""Audio in parquet files: a column of encoded files, as bytes or as Hugging Face's struct of bytes and path.

Rows are read in order, one row group at a time, by pyarrow (the extra `parquet`). Other columns are read only for names, licence, split
and source. Formats: https://parquet.apache.org/docs/file-format, https://huggingface.co/docs/datasets/audio_dataset.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hear_ssl.data.packing.file_kinds import UNREAD
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.lists import LICENSES, PATHS, SPLITS, RowsOfSplit, row_text
from hear_ssl.errors import one_line

SUFFIX = ".parquet"
KIND = "parquet"  # of archive
LARGEST_GROUP = 2 << 30  # bytes of audio in a row group, which may be in memory at once
BATCH = 8  # rows
BYTES = ".bytes"  # in Hugging Face's struct
BINARY, TEXT = ("binary", "large_binary"), ("string", "large_string")
BUFFER = 1 << 20  # bytes of a column read at once
MISSING = "cannot be read: it needs pyarrow; install it with pip install 'pyarrow>=16', or hear_ssl with its extra parquet"


def from_parquet(path: Path, license: str, split: str, left: Counter[str]) -> Iterator[Item]:
    """Yield the rows of a parquet file, only those of `split` if it has a column of splits; `left` counts the other rows.

    Raises ValueError when pyarrow is missing, or when the file is damaged, has no or several columns of audio bytes, or has row groups
    that are too large for memory.
    """
    with open_file(path) as file, _damage_of(path):
        rows = RowsOfSplit(path, split)
        for number, (row_split, item) in enumerate(_rows(path, file, license, split)):
            if rows.take(row_split, f"{path}, row {number}"):
                yield item
        rows.end(left)


def open_file(path: str | Path) -> Any:
    """Return an open parquet file. Raises ValueError when pyarrow is missing or the file is damaged."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{path} {MISSING}") from None
    with _damage_of(path):
        return pyarrow.parquet.ParquetFile(str(path), buffer_size=BUFFER, pre_buffer=False)


@contextmanager
def _damage_of(path: str | Path) -> Iterator[None]:
    """Convert errors of pyarrow to ValueError with the name of the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"parquet file {path} is damaged ({one_line(error)[:80]}); fetch it again") from None


def _rows(path: Path, file: Any, license: str, split: str) -> Iterator[tuple[str, Item]]:
    """Yield for each row its split, or '', and its file."""
    column = audio_column(path, file)
    for number in range(file.metadata.num_row_groups):
        check_group(path, file, number, column)
    inside = column.removesuffix(BYTES) + ".path" if column.endswith(BYTES) else ""
    parent = path.resolve().parent
    folder = parent.parent.name if parent.name == "data" else parent.name
    for number, row in enumerate(_texts(file, inside)):
        where = f"{path}, row {number}"
        name = row_text(row, (inside, *PATHS), where) or f"{path.stem}-{number:06d}"
        suffix = os.path.splitext(name)[1].lower()
        refused = f"format not read: {suffix}" if UNREAD.fullmatch(suffix) else ""
        source, own_license = row_text(row, ("source",), where) or folder, row_text(row, LICENSES, where) or license
        yield row_text(row, SPLITS, where), Item(str(path), name, source, own_license, split, KIND, number, 0, refused)


def _texts(file: Any, inside: str) -> Iterator[dict[str, Any]]:
    """Yield the texts of each row by lower-case column name, including `inside`, the path in the audio column."""
    names = {*PATHS, *LICENSES, *SPLITS, "source"}
    wanted = [field.name for field in file.schema_arrow if str(field.type) in TEXT and field.name.lower() in names]
    wanted += {inside} & set(leaves(file))
    if not wanted:
        yield from ({} for _ in range(file.metadata.num_rows))
        return
    outer, _, inner = inside.rpartition(".")
    for batch in file.iter_batches(1024, columns=wanted, use_threads=False):
        for row in batch.to_pylist():
            audio = row.pop(outer, None)
            path = {inside: audio.get(inner)} if isinstance(audio, dict) else {}
            yield {key.lower(): value for key, value in row.items()} | path


def leaves(file: Any) -> list[str]:
    """Return the paths of a file's columns, such as audio.bytes."""
    return [file.schema.column(number).path for number in range(len(file.schema))]


def audio_column(path: str | Path, file: Any) -> str:
    """Return the path of the column with encoded audio. Raises ValueError when there is none, or the choice is ambiguous."""
    found: list[str] = []
    for field in file.schema_arrow:
        if str(field.type) in BINARY:
            found.append(field.name)
        elif str(field.type).startswith("struct<"):
            found += [field.name + BYTES for part in field.type if part.name == BYTES[1:] and str(part.type) in BINARY]
    named = [name for name in found if name.removesuffix(BYTES).lower() == "audio"] or found
    if len(named) != 1:
        given = f"several columns of bytes ({', '.join(found)})" if found else f"no column of bytes, only {', '.join(leaves(file))[:200]}"
        raise ValueError(f"{path} has {given}; give one with encoded audio files, which is named audio where there are several")
    return named[0]


def check_group(path: str | Path, file: Any, number: int, column: str) -> None:
    """Raise ValueError when the audio of a row group is too large for memory."""
    group = file.metadata.row_group(number)
    size = next(
        group.column(place).total_uncompressed_size for place in range(group.num_columns) if group.column(place).path_in_schema == column
    )
    if size > LARGEST_GROUP:
        raise ValueError(
            f"{path} has {size / 1e9:.1f} GB of audio in a row group; at most {LARGEST_GROUP / 1e9:.1f} GB can be read:"
            " write it with smaller ones, such as row_group_size=100"
        )


class ParquetRows:
    """The audio of a parquet file, row by row."""

    def __init__(self, path: str) -> None:
        """Open the file. Raises ValueError as `from_parquet` does."""
        self.path, self.file = path, open_file(path)
        self.column = audio_column(path, self.file)
        self.ends: list[int] = []
        for number in range(self.file.metadata.num_row_groups):
            check_group(path, self.file, number, self.column)
            self.ends.append((self.ends or [0])[-1] + self.file.metadata.row_group(number).num_rows)
        self.group_end = 0
        self.batches: Iterator[Any] = iter(())
        self.batch: Any = None
        self.first = 0  # row of the batch

    def read(self, row: int) -> bytes:
        """Return the audio of a row; going back to an earlier row reads its row group again.

        Raises ValueError when the row has no audio.
        """
        with _damage_of(self.path):
            if self.batch is None or row < self.first:
                self._begin(row)
            while self.batch is not None and row >= self.first + len(self.batch):
                if row >= self.group_end:
                    self._begin(row)
                else:
                    self.first += len(self.batch)
                    self.batch = next(self.batches, None)
            if self.batch is None:
                raise OSError("it has fewer rows than it states")
            values = self.batch.column(0)
            value = (values.field(BYTES[1:]) if self.column.endswith(BYTES) else values)[row - self.first].as_py()
        if not value:
            raise ValueError("its row has no audio bytes")
        return bytes(value)

    def _begin(self, row: int) -> None:
        """Open the row group that contains a row."""
        group = bisect_right(self.ends, row)
        if group == len(self.ends):
            raise OSError("it has fewer rows than before")
        self.batch = None  # frees the memory of the previous one
        self.batches = self.file.iter_batches(BATCH, row_groups=[group], columns=[self.column], use_threads=False)
        self.first, self.group_end = (self.ends[group - 1] if group else 0), self.ends[group]
        self.batch = next(self.batches, None)
