"""Recordings of the same source become pairs; everything else stays as it was, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.pair_recordings import pairs_of, write_pairs
from hear_ssl.data.packing.shard_writer import EncodedClip, write_shards
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import write_index
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.training.config import load_config

NAMES = ["game/wolf-1.wav", "game/wolf-2.wav", "game/wolf-3.wav", "game/door.wav", "game/7.wav", "game/8.wav", "other/wolf-9.wav"]


def record(path: str, source: str = "game") -> dict[str, str]:
    return {"source": source, "path": path}


def test_recordings_follow_one_another_in_a_circle() -> None:
    records = {"c": record("a/wolf_03.ogg"), "a": record("a/Wolf_01.ogg"), "b": record("a/wolf_02b.ogg"), "d": record("a/wolves.ogg")}
    assert pairs_of(records, []) == {"a": "b", "b": "c", "c": "a"}


@pytest.mark.parametrize("other", [record("b/wolf2.ogg"), record("a/wolf2.ogg", "elsewhere"), record("a/bear2.ogg")])
def test_other_folders_sources_and_names_are_not_paired(other: dict[str, str]) -> None:
    assert pairs_of({"a": record("a/wolf1.ogg"), "b": other}, []) == {}


def test_bare_numbers_and_excluded_sources_are_not_paired() -> None:
    assert pairs_of({"a": record("a/1.ogg"), "b": record("a/2.ogg")}, []) == {}
    assert pairs_of({"a": record("a/wolf1.ogg"), "b": record("a/wolf2.ogg")}, ["ga*"]) == {}


def test_pieces_of_a_long_recording_meet_those_of_the_next_in_turn() -> None:
    records = {"a0": record("rain1.ogg"), "a1": record("rain1.ogg"), "b0": record("rain2.ogg")}
    assert pairs_of(records, []) == {"a0": "b0", "a1": "b0", "b0": "a0"}
    assert pairs_of({"a0": record("rain1.ogg"), "a1": record("rain1.ogg")}, []) == {}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack one tone a file, each of its own pitch."""
    folder = tmp_path_factory.mktemp("recordings")
    time = np.arange(16000) / 16000
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, 0.5 * np.sin(2 * np.pi * (300 + 100 * number) * time), 16000)
    files = [{"path": name, "source": name.partition("/")[0], "license": "CC0-1.0"} for name in NAMES]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in files))
    pack(list_items([str(folder / "list.jsonl")], "", "train"), folder / "shards", PackOptions())
    return folder / "shards"


def test_the_two_folders_hold_every_clip_once_and_train_together(packed: Path, tmp_path: Path) -> None:
    before = ShardSet([str(packed)])
    indexes = write_pairs(before, tmp_path, [])
    assert {name: index.clips for name, index in indexes.items()} == {"pairs": 3, "others": 4}
    assert sum(index.hours for index in indexes.values()) == pytest.approx(before.indexes[0].hours, abs=1e-5)
    assert [(s.name, s.clips) for s in indexes["others"].sources] == [("game", 3), ("other", 1)]
    after = ShardSet([str(tmp_path / "pairs"), str(tmp_path / "others")])
    audio = {clip.key: before.audio(clip) for clip in before.clips}
    assert {clip.key: after.audio(clip) for clip in after.clips} == audio
    overrides = ["data.shards=[x]", "data.positives=pairs", "data.weights=[1,1]", "data.batch_size=16", "data.crops.0.seconds=1"]
    config = load_config(None, overrides).data
    batch = BatchStream(after, config, 16000, seed=0).batch(0)
    loudest = np.abs(np.fft.rfft(batch.waveform.numpy(), axis=-1)).argmax(-1)  # (batch, 2), the tones in Hz
    assert batch.lost == []
    assert {(int(a), int(b)) for a, b in loudest if a != b} == {(300, 400), (400, 500), (500, 300)}
    assert {int(a) for a, b in loudest if a == b} <= {600, 700, 800, 900}


def test_what_cannot_be_paired_is_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no two clips are recordings of one source"):
        write_pairs(ShardSet([str(packed)]), tmp_path, ["*"])
    write_pairs(ShardSet([str(packed)]), tmp_path, [])
    with pytest.raises(FileExistsError, match="give another folder"):
        write_pairs(ShardSet([str(packed)]), tmp_path, [])


def test_folders_that_do_not_go_together_are_refused(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"two clips have the key .*give each folder once"):
        write_pairs(ShardSet([str(packed), str(tmp_path / "copy")]), tmp_path, [])
    pack(list_items([str(packed.parent / "list.jsonl")], "", "valid"), tmp_path / "valid", PackOptions())
    with pytest.raises(ValueError, match=r"differ in their split \(train, valid\)"):
        write_pairs(ShardSet([str(packed), str(tmp_path / "valid")]), tmp_path, [])


def test_records_of_another_tool_are_refused(packed: Path, tmp_path: Path) -> None:
    shards = ShardSet([str(packed)])
    clips = [EncodedClip(clip.key, clip.codec, shards.audio(clip), {"source": "game", "seconds": 1.0}) for clip in shards.clips]
    written = write_shards(tmp_path / "foreign", "train", iter(clips), len(clips), 512)
    write_index(tmp_path / "foreign", replace(shards.indexes[0], shards=written))
    with pytest.raises(ValueError, match=r"has no path in its JSON; pack its recording by hear_ssl\.data\.pack"):
        write_pairs(ShardSet([str(tmp_path / "foreign")]), tmp_path, [])
