"""index.json: whatever it holds, it is read whole or refused in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hear_ssl.data.shards.shard_index import (
    SHARD_NAME,
    ShardIndex,
    ShardRecord,
    SourceRecord,
    check_split,
    parse_index,
    read_index,
    write_index,
)

INDEX = ShardIndex(
    sample_rate=16000,
    codec="flac",
    split="train",
    hours=0.5,
    clips=7,
    shards=(ShardRecord("train-000000.tar", 4, 10240, "0" * 64, 1000.0), ShardRecord("train-000001.tar", 3, 20480, "f" * 64, 800.5)),
    sources=(SourceRecord("field", "CC-BY-4.0", 0.3, 5), SourceRecord("studio", "CC0-1.0", 0.2, 2)),
    rejected={"silent": 3},
)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = ["format", "sample_rate", "shards", "clips", "name", "bytes", "sources", "rejected", "x"]
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6))


@pytest.fixture
def mapping(tmp_path: Path) -> dict[str, Any]:
    write_index(tmp_path, INDEX)
    content = json.loads((tmp_path / "index.json").read_text())
    assert isinstance(content, dict)
    return {key: value for key, value in content.items() if key not in ("wids_version", "shardlist")}  # which only wids reads


def refusal(folder: Path, content: str | bytes) -> str:
    """Return the line with which an index is refused."""
    (folder / "index.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"is damaged \(.*\); run hear-ssl pack again$") as caught:
        read_index(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / "index.json") in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_index(tmp_path, INDEX)
    assert read_index(tmp_path) == read_index(str(tmp_path / "index.json")) == INDEX
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_no_index_is_said_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing does not exist; pack one with: hear-ssl pack INPUT"):
        read_index(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"has no index.json: .* run hear-ssl pack again"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "1e400", "\ufeff{}", '{"format": "hear_ssl.shards/1"', b"\xff\xfe\0\0", b"\x80"]
)
def test_damaged_json_is_refused(tmp_path: Path, content: str | bytes) -> None:
    refusal(tmp_path, content)


def test_half_an_index_and_a_very_deep_one_are_refused(tmp_path: Path, mapping: dict[str, Any]) -> None:
    text = json.dumps(mapping)
    for length in range(0, len(text), 17):
        refusal(tmp_path, text[:length])
    refusal(tmp_path, "[" * 100000)
    refusal(tmp_path, json.dumps({**mapping, "clips": 0}).replace('"clips": 0', '"clips": ' + "[" * 5000 + "]" * 5000, 1))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value in a JSON document, the document itself left out."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [place for key, item in entries for place in places(item, (*path, key))]
    return [path, *inner] if path else inner


def changed(mapping: dict[str, Any], path: tuple[str | int, ...], value: Any = None, delete: bool = False) -> dict[str, Any]:
    """Return the document with another value at a path, or without it."""
    result = copy.deepcopy(mapping)
    inner: Any = result
    for key in path[:-1]:
        inner = inner[key]
    if delete:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return result


def test_a_missing_key_is_named(tmp_path: Path, mapping: dict[str, Any]) -> None:
    keys = [path for path in places(mapping) if isinstance(path[-1], str) and path[0] != "rejected"]
    assert len(keys) == 8 + 2 * 5 + 2 * 4
    for path in keys:
        line = refusal(tmp_path, json.dumps(changed(mapping, path, delete=True)))
        assert str(path[-1]) in line


def test_a_wrong_type_is_refused_everywhere(tmp_path: Path, mapping: dict[str, Any]) -> None:
    for path in places(mapping):
        present: Any = mapping
        for key in path:
            present = present[key]
        for value in (None, True, "x", [1], {"a": 1}, 1.5):
            if type(value) is type(present) or (path[0] == "rejected" and value is True):
                continue
            refusal(tmp_path, json.dumps(changed(mapping, path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "hear_ssl.shards/2"),
        (("sample_rate",), 0),
        (("sample_rate",), -16000),
        (("clips",), 8),
        (("shards", 0, "clips"), -4),
        (("shards", 0, "bytes"), -1),
        (("shards", 0, "sha256"), "0" * 63),
        (("shards", 0, "sha256"), "G" * 64),
        (("shards", 0), []),
        (("shards",), []),
        (("hours",), 10**400),
        *((("shards", 0, "seconds"), value) for value in (float("nan"), float("inf"), -1.0, 1e30)),
        *(
            (("shards", 1, "name"), name)
            for name in ("../x.tar", "/etc/x.tar", "a/b.tar", ".x.tar", "x.tar\n", "x.tgz", "..", "a\\b.tar", "")
        ),
    ],
)
def test_an_impossible_value_is_refused(tmp_path: Path, mapping: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    refusal(tmp_path, json.dumps(changed(mapping, path, value)))


@pytest.mark.parametrize("clips", [10**9 + 1, 10**13, 10**30])
def test_more_clips_than_can_be_ordered_are_refused(tmp_path: Path, mapping: dict[str, Any], clips: int) -> None:
    line = refusal(tmp_path, json.dumps(changed(changed(mapping, ("shards", 0, "clips"), clips - 3), ("clips",), clips)))
    assert str(10**9) in line or str(clips - 3) in line


def read_or_refused(folder: Path, content: bytes) -> ShardIndex | None:
    """Read an index; whatever it holds, the only error is a ValueError of one line."""
    (folder / "index.json").write_bytes(content)
    try:
        return read_index(folder)
    except ValueError as error:
        line = str(error)
    assert line.splitlines() == [line]
    return None


@given(JSON)
@FUZZ
def test_no_json_breaks_the_reader_otherwise_than_with_a_line(tmp_path: Path, value: Any) -> None:
    assert read_or_refused(tmp_path, json.dumps(value).encode()) is None
    with pytest.raises(ValueError, match=r"."):
        parse_index(value)


@given(st.binary(max_size=60))
@FUZZ
def test_no_bytes_break_the_reader_otherwise_than_with_a_line(tmp_path: Path, content: bytes) -> None:
    assert read_or_refused(tmp_path, content) is None


@given(st.data())
@FUZZ
def test_an_index_with_one_strange_value_is_refused_or_of_the_right_types(
    tmp_path: Path, mapping: dict[str, Any], data: st.DataObject
) -> None:
    value = data.draw(JSON | st.integers(-3, 10) | st.text("ab/.\\tr\n\0", max_size=8))
    strange = changed(mapping, data.draw(st.sampled_from(places(mapping))), value)
    index = read_or_refused(tmp_path, json.dumps(strange).encode())
    if index is None:
        return
    assert type(index.sample_rate) is int
    assert type(index.clips) is int
    assert index.clips == sum(shard.clips for shard in index.shards)
    assert all(isinstance(text, str) for text in (index.codec, index.split, *(source.license for source in index.sources)))
    assert all((tmp_path / shard.name).resolve().parent == tmp_path.resolve() for shard in index.shards)
    assert all(type(shard.bytes) is int and shard.bytes >= 0 for shard in index.shards)


MARKED = ["test", "TEST", " Test ", "test-clean", "test_set", "TestSet", "eval-balanced", "my.evaluation", "HEARTest", "testing2"]


@pytest.mark.parametrize("split", MARKED)
def test_data_marked_as_test_is_refused_in_any_spelling(split: str) -> None:
    with pytest.raises(ValueError, match=r"^--split names the split .*: refused by the HEAR rule"):
        check_split(split, "--split")


@pytest.mark.parametrize("split", ["", "my train", "../../escaped", "/train", ".train", "-train", "tr/ain", "train\n", "größe", "train\0"])
def test_a_split_that_cannot_name_a_shard_is_refused(split: str) -> None:
    with pytest.raises(ValueError, match=r"^--split names the split .*; name a split by letters") as caught:
        check_split(split, "--split")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "valid", "contest", "latest", "evaluated_songs", "train-clean-100", "Fold.1", "_x"])
def test_other_splits_are_taken(split: str) -> None:
    check_split(split, "--split")
    assert SHARD_NAME.fullmatch(f"{split}-000000.tar")
