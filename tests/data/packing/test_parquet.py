"""Parquet files are packed as the audio files in their rows are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hear_ssl.data.packing import parquet
from hear_ssl.data.packing.archives import packing_order, read_item
from hear_ssl.data.packing.clips import PackOptions, pack_item
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.part_of import PartOf
from tests.conftest import ROOT
from tests.data.packing.test_pack import error_line, packed, reasons, script, tar_of
from tests.data.sounds import encoded, tone

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HUGGING_FACE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def sounds(count: int) -> list[bytes]:
    return [encoded(tone(0.3, 300.0 + 10 * number), format="FLAC") for number in range(count)]


def hugging_face(path: Path, contents: list[bytes | None], rows_in_group: int = 4, **columns: list[Any]) -> Path:
    """Write a parquet file as `datasets.Dataset.to_parquet` and the Hub lay it out."""
    rows = [{"bytes": content, "path": f"{number}.flac"} for number, content in enumerate(contents)]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"text": ["words"] * len(rows), "audio": pyarrow.array(rows, HUGGING_FACE), **columns})
    pq.write_table(table, path, row_group_size=rows_in_group)
    return path


def test_rows_are_packed_as_their_files_are(tmp_path: Path) -> None:
    contents = sounds(10)
    path = hugging_face(tmp_path / "birds" / "data" / "train-00000-of-00001.parquet", contents)
    tar = tar_of(tmp_path / "birds.tar", *((f"{number}.flac", content) for number, content in enumerate(contents)))
    first, second = packed([path], tmp_path / "a", workers=2), packed([tar], tmp_path / "b")
    assert {clip.key for clip in first.clips} == {clip.key for clip in second.clips}
    audio = [{clip.key: shards.audio(clip) for clip in shards.clips} for shards in (first, second)]
    assert audio[0] == audio[1]
    records = [{clip.key: shards.record(clip) for clip in shards.clips} for shards in (first, second)]
    assert records[0] == records[1]
    assert len(first) == 10


def test_columns_name_licence_source_and_split(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "license": ["CC0-1.0", None, "CC-BY-4.0", "MIT"],
        "Source": ["one", "two", "", "one"],
        "split": ["train", "train", "train", "validation"],
    }
    path = hugging_face(tmp_path / "birds" / "a.parquet", [*sounds(4)], **columns)
    left: Any = parquet.Counter()
    items = list_items([str(path)], "unknown", "train", left=left)
    assert [(item.name, item.source, item.license) for item in items] == [
        ("2.flac", "birds", "CC-BY-4.0"),
        ("0.flac", "one", "CC0-1.0"),
        ("1.flac", "two", "unknown"),
    ]
    assert left == {"rows of the split validation": 1}
    with pytest.raises(ValueError, match=r"no row of the split 'dev', but of train \(3\), validation \(1\)"):
        list_items([str(path)], "unknown", "dev")


def test_a_plain_column_of_bytes_is_read_too(tmp_path: Path) -> None:
    contents = sounds(3)
    table = {"file_name": ["x/a.flac", "x/b.flac", None], "flac": pyarrow.array(contents, pyarrow.large_binary())}
    pq.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    items = list_items([str(tmp_path / "a.parquet")], "", "train")
    assert [item.name for item in items] == ["a-000002", "x/a.flac", "x/b.flac"]
    assert [read_item(item) for item in items] == [contents[2], *contents[:2]]
    pq.write_table(pyarrow.table({"bytes": pyarrow.array(contents)}), tmp_path / "b.parquet")
    assert [item.name for item in list_items([str(tmp_path / "b.parquet")], "", "train")] == ["b-000000", "b-000001", "b-000002"]


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    contents = sounds(30)
    path = hugging_face(tmp_path / "a.parquet", [*contents], 12)
    rows = parquet.ParquetRows(str(path))
    order = [*range(0, 30, 3), *np.random.default_rng(0).permutation(30).tolist()]
    assert [rows.read(row) for row in order] == [contents[row] for row in order]
    with pytest.raises(ValueError, match="fewer rows"):
        rows.read(30)


def test_rows_are_packed_in_their_order_a_few_files_at_a_time(tmp_path: Path) -> None:
    paths = [hugging_face(tmp_path / f"{number}.parquet", [*sounds(6)]) for number in range(6)]
    items = list_items([str(path) for path in paths], "", "train")
    ordered = packing_order(items)
    assert sorted(map(repr, ordered)) == sorted(map(repr, items))
    for path in paths:
        rows = [item.offset for item in ordered if item.path == str(path)]
        assert rows == sorted(rows)
    assert len({item.path for item in ordered[:24]}) == 4
    shares = [PartOf(number, 3).share(items) for number in (1, 2, 3)]
    assert [len({item.path for item in share}) for share in shares] == [2, 2, 2]


def test_rows_without_sound_are_rejected_by_name(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "in" / "a.parquet", [sounds(1)[0], None, b"", b"no sound at all"])
    assert len(packed([path], tmp_path / "out")) == 1
    found = reasons(tmp_path / "out")
    assert found["a.parquet/1.flac"] == found["a.parquet/2.flac"] == "unreadable: its row has no audio bytes"
    assert found["a.parquet/3.flac"].startswith("unreadable: ")


def test_test_data_is_refused(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "birds" / "test-00000-of-00001.parquet", [*sounds(2)])
    with pytest.raises(ValueError, match="contains 'test-00000-of-00001': refused by the HEAR rule"):
        list_items([str(path)], "", "train")
    assert len(list_items([str(path)], "", "train", not_test=["birds"])) == 2
    path = hugging_face(tmp_path / "birds" / "all.parquet", [*sounds(2)], split=["test", "test"])
    with pytest.raises(ValueError, match="names the split 'test': refused"):
        list_items([str(path)], "", "train")


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"text": ["a"]}, "has no column of bytes, only text; give one with encoded audio files"),
        ({"a": [b"1"], "b": [b"2"]}, r"has several columns of bytes \(a, b\); give one"),
        ({"audio": ["a"], "split": [3]}, "has no column of bytes, only audio, split"),
    ],
)
def test_files_without_one_column_of_audio_are_named(tmp_path: Path, table: dict[str, list[Any]], error: str) -> None:
    pq.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=error):
        list_items([str(tmp_path / "a.parquet")], "", "train")


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "in" / "a.parquet", [*sounds(8)])
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"parquet file .* is damaged \(.*\); fetch it again"):
            list_items([str(path)], "", "train")
    assert "is damaged" in error_line(script(path, "--out", tmp_path / "out"))
    rng = np.random.default_rng(0)
    for _ in range(60):  # anywhere: a row may be damaged, nothing else may be raised
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            items = list_items([str(path)], "", "train")
        except ValueError:
            continue
        for item in items:
            pack_item(item, PackOptions())


def test_row_groups_beyond_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hugging_face(tmp_path / "a.parquet", [*sounds(8)])
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 10_000)
    with pytest.raises(ValueError, match=r"of audio in a row group; at most .* write it with smaller ones, such as row_group_size=100"):
        list_items([str(path)], "", "train")


def test_a_missing_extra_is_one_line(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "a.parquet", [*sounds(1)])
    code = "import sys; sys.modules['pyarrow'] = None; import hear_ssl.data.pack as pack; pack.run_main(pack.main)"
    done = subprocess.run([sys.executable, "-c", code, str(path), "--out", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {path} {parquet.MISSING}\n"


def test_packing_does_not_load_pyarrow(tmp_path: Path) -> None:
    code = "import sys, hear_ssl.data.pack, hear_ssl.data.packing.parquet; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": content, "path": None} for content in sounds(5)]
    dataset = datasets.Dataset.from_dict({"audio": rows, "label": range(5)}).cast_column("audio", datasets.Audio(decode=False))
    dataset.to_parquet(str(tmp_path / "birds.parquet"))
    assert len(packed([tmp_path / "birds.parquet"], tmp_path / "out")) == 5
