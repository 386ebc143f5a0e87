"""Our shards as other tools read them: a plain loop of webdataset, and wids by our index."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import webdataset

from hear_ssl.data.packing.shard_writer import EncodedClip, write_shard
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import INDEX_NAME, read_index, write_index
from tests.data.sounds import encoded, tone


def test_a_plain_loop_of_webdataset_reads_our_shards(shards: Path) -> None:
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    ours = ShardSet([str(shards)])
    assert [sample["__key__"] for sample in samples] == [clip.key for clip in ours.clips]
    assert [sample["json"] for sample in samples] == [ours.record(clip) for clip in ours.clips]
    assert [sample[clip.codec] for sample, clip in zip(samples, ours.clips, strict=True)] == [ours.audio(clip) for clip in ours.clips]


def test_wids_opens_our_index(shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import wids

    dataset = wids.ShardListDataset(str(shards / INDEX_NAME), cache_dir=str(tmp_path / "cache"), transformations=[])
    ours = ShardSet([str(shards)])
    assert len(dataset) == len(ours) == 24
    for number in (0, 23, 7, 12):
        sample, clip = dataset[number], ours.clips[number]
        assert sample["__key__"] == clip.key
        assert sample[f".{clip.codec}"].read() == ours.audio(clip)
        assert json.loads(sample[".json"].read()) == ours.record(clip)
    dataset.close()


def test_the_index_holds_what_wids_needs_and_reads_as_before(shards: Path, tmp_path: Path) -> None:
    index = read_index(shards)
    write_index(tmp_path, index)
    mapping = json.loads((tmp_path / INDEX_NAME).read_text())
    assert mapping["wids_version"] == 1
    assert mapping["shardlist"] == [{"url": record.name, "nsamples": record.clips} for record in index.shards]
    assert read_index(tmp_path) == index
    for key in ("wids_version", "shardlist"):  # an index of an earlier version
        del mapping[key]
    (tmp_path / INDEX_NAME).write_text(json.dumps(mapping))
    assert read_index(tmp_path) == index


def test_the_bytes_of_a_shard_follow_from_its_clips_alone(tmp_path: Path) -> None:
    clips = [EncodedClip(f"k{n}", codec, encoded(tone(0.1)), {"seconds": 0.1}) for n, codec in enumerate(("wav", "flac", "opus"))]
    first, second = (write_shard(tmp_path / name, clips) for name in ("a.tar", "b.tar"))
    assert first.sha256 == second.sha256
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o444)}
