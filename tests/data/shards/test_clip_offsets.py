"""The table next to a shard: what a walk through its headers finds, sums that name every changed clip, and never another shard's."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hear_ssl.data.packing.shard_writer import EncodedClip, write_shard
from hear_ssl.data.shards.clip_offsets import SUFFIX, load_clip_offsets, read_clips, scan_shard, write_clip_offsets
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, read_index, write_index
from tests.data.shards.test_reader import shard_folder
from tests.data.sounds import encoded

KINDS = {
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def folder_of(folder: Path, codec: str, keys: tuple[str, ...] = ("a", "b")) -> Path:
    """Write one shard of clips of a codec, and its index."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    audio = encoded(noise, 16000, *KINDS[codec])
    record = write_shard(folder / "train-000000.tar", [EncodedClip(key, codec, audio, {"seconds": 1.0}) for key in keys])
    source = (SourceRecord("a", "CC0-1.0", 0.0, len(keys)),)
    write_index(folder, ShardIndex(16000, codec, "train", 0.0, len(keys), (record,), source, {}))
    return folder


@pytest.mark.parametrize("keys", [("a",), ("short", "a-key-that-is-rather-longer"), ("größe", "音", "x" * 90), ()])
def test_the_table_written_is_the_walk_through_the_headers(tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = folder_of(tmp_path, "flac", keys) / "train-000000.tar"
    table, walked = load_clip_offsets(path, read_index(tmp_path).shards[0].sha256), scan_shard(path)
    assert table is not None
    assert len(table) == len(walked) == len(keys)
    clips = [table.clip(place) for place in range(len(keys) + 1)]
    assert clips == [walked.clip(place) for place in range(len(keys) + 1)]
    assert [clip.key for clip in clips if clip] == list(keys)
    assert clips[-1] is None


def test_a_run_with_tables_walks_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shard_folder(tmp_path / "shards")
    expected = [clip for path in sorted(folder.glob("*.tar")) for clip in read_clips(path)]

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a shard was walked")

    monkeypatch.setattr(tarfile, "open", refuse)
    assert ShardSet([str(folder)]).clips == expected


@pytest.mark.parametrize("codec", sorted(KINDS))
def test_a_flipped_bit_anywhere_in_a_clip_is_named(tmp_path: Path, codec: str) -> None:
    from tests.data.reading import decode_crops

    folder = folder_of(tmp_path, codec)
    shards = ShardSet([str(folder)])
    first, second = shards.clips
    intact, whole = shards.audio(second), Path(first.shard).read_bytes()
    for place in np.linspace(0, first.size - 1, 60).astype(int).tolist():
        content = bytearray(whole)
        content[first.offset + place] ^= 1 << place % 8
        Path(first.shard).write_bytes(content)
        damaged = ShardSet([str(folder)])
        with pytest.raises(ValueError, match=r"not those that were packed|does not decode|ends after"):
            decode_crops(damaged.audio(damaged.clip(0)), [0.0], 16000, 16000)
        assert damaged.audio(damaged.clip(1)) == intact


def test_a_table_of_other_bytes_is_passed_over(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards")
    index = read_index(folder)
    first, second = (folder / record.name for record in index.shards)
    first.with_suffix(SUFFIX).write_bytes(second.with_suffix(SUFFIX).read_bytes())
    assert load_clip_offsets(first, index.shards[0].sha256) is None
    assert ShardSet([str(folder)]).clips == [clip for path in (first, second) for clip in read_clips(path)]
    write_clip_offsets(first, index.shards[0].sha256)
    assert load_clip_offsets(first, index.shards[0].sha256) is not None


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_table_is_passed_over(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "shards"
    if not folder.exists():
        shard_folder(folder)
    path, sha256 = folder / "train-000000.tar", read_index(folder).shards[0].sha256
    write_clip_offsets(path, sha256)
    whole = path.with_suffix(SUFFIX).read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.with_suffix(SUFFIX).write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    assert load_clip_offsets(path, sha256) is None
    assert len(ShardSet([str(folder)]).clips) == 7


def test_no_table_is_written_of_a_damaged_shard(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards")
    path = folder / "train-000000.tar"
    path.with_suffix(SUFFIX).unlink()
    os.truncate(path, 2000)
    with pytest.raises(ValueError, match=r"train-000000.tar is damaged"):
        write_clip_offsets(path, read_index(folder).shards[0].sha256)
    assert not path.with_suffix(SUFFIX).exists()


def test_a_table_that_holds_other_clips_than_the_index_says_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "wav")
    index = read_index(folder)
    write_index(folder, replace(index, clips=3, shards=(replace(index.shards[0], clips=3),)))
    with pytest.raises(ValueError, match="it holds 2 clips, the index states 3"):
        _ = ShardSet([str(folder)]).clips
