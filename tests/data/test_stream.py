"""Order, shards, decoding and batches: a pure function of seed and step, whoever asks, and every loss named."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_ssl.config import DataConfig
from hear_ssl.data.datamodule import ShardDataModule
from hear_ssl.data.decode import decode_crops
from hear_ssl.data.index import parse_index, read_index
from hear_ssl.data.order import SampleOrder
from hear_ssl.data.shards import ShardSet, read_table
from hear_ssl.data.stream import BatchStream
from tests.data.sounds import encoded, tone


def config(shards: Path, **options: Any) -> DataConfig:
    return DataConfig(**{"shards": [str(shards)], "batch_size": 8, "crop_seconds": 0.5, "workers": 0, **options})


def stream(shards: Path, rank: int = 0, ranks: int = 1, seed: int = 0, **options: Any) -> BatchStream:
    return BatchStream(ShardSet([str(shards)]), config(shards, **options), 16000, seed, rank, ranks)


@given(st.integers(1, 200), st.integers(0, 2**31), st.sampled_from([(1, 4), (2, 4), (4, 8), (3, 9), (8, 16)]))
@settings(max_examples=50, deadline=None)
def test_every_clip_comes_once_a_pass_over_all_ranks(clips: int, seed: int, shape: tuple[int, int]) -> None:
    ranks, batch = shape
    order = SampleOrder(clips, seed)
    whole, step = [], 0
    while len(whole) < 2 * clips:
        rows = [row for rank in range(ranks) for row in order.batch(step, batch, rank, ranks)]
        assert rows == SampleOrder(clips, seed).batch(step, batch)
        whole += rows
        step += 1
    passes = Counter(whole[: 2 * clips])
    assert set(passes.values()) == {1}
    assert {number for number, _ in passes} == {0, 1}


def test_each_pass_and_each_seed_has_its_own_order() -> None:
    order = SampleOrder(100, 0)
    assert order.permutation(0).tolist() != order.permutation(1).tolist()
    assert order.permutation(0).tolist() != SampleOrder(100, 1).permutation(0).tolist()
    later = SampleOrder(100, 0)
    for number in (7, 3, 0):
        later.permutation(number)
    assert later.permutation(0).tolist() == SampleOrder(100, 0).permutation(0).tolist()


def test_a_batch_mixes_shards_as_a_full_shuffle_does() -> None:
    shard_of = np.repeat(np.arange(32), 512)
    order, same = SampleOrder(len(shard_of), 0), []
    for step in range(200):
        shards = shard_of[[clip for _, clip in order.batch(step, 64)]]
        same.append(((shards[:, None] == shards).sum() - 64) / (64 * 63))
    assert np.mean(same) == pytest.approx(1 / 32, rel=0.1)


def test_a_table_reads_what_tarfile_reads(shards: Path) -> None:
    found = ShardSet([str(shards)])
    with tarfile.open(found.clips[0].shard) as tar:
        for clip in found.clips[:5]:
            member = tar.extractfile(f"{clip.key}.{clip.codec}")
            assert member is not None
            assert found.audio(clip) == member.read()


def copied(shards: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_damaged_shard_is_named(shards: Path, tmp_path: Path) -> None:
    folder = copied(shards, tmp_path / "shards")
    path = next(folder.glob("*.tar"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{path.name} has .* truncated or changed"):
        ShardSet([str(folder)])
    path.write_bytes(b"\xff" * 600 + whole[600:])
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        read_table(path)
    path.unlink()
    with pytest.raises(ValueError, match=f"shard {path.name} is missing"):
        ShardSet([str(folder)])
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=r"index.json"):
        ShardSet([str(folder)])


KEYS = ["format", "sample_rate", "shards", "clips", "name", "bytes", "sources", "rejected", "x"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)))
@settings(max_examples=300, deadline=None)
def test_no_index_breaks_the_reader_otherwise_than_with_a_line(mapping: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_index(mapping)


def test_an_index_with_one_wrong_value_is_refused(shards: Path, tmp_path: Path) -> None:
    good = json.loads((shards / "index.json").read_text())
    for key, value in (("clips", "many"), ("sample_rate", 1.5), ("shards", {}), ("hours", None), ("format", "other/1")):
        (tmp_path / "index.json").write_text(json.dumps({**good, key: value}))
        with pytest.raises(ValueError, match=r"."):
            read_index(tmp_path)
    evil = {**good, "shards": [{**good["shards"][0], "name": "../../etc/passwd"}]}
    (tmp_path / "index.json").write_text(json.dumps(evil))
    with pytest.raises(ValueError, match=r"."):
        read_index(tmp_path)


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", None)])
def test_a_crop_is_the_slice_of_the_whole(format: str, subtype: str | None) -> None:
    content = encoded(tone(3.0) * np.linspace(0.1, 1, 48000, dtype=np.float32), format=format, subtype=subtype)
    whole, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    for share in (0.0, 0.3, 0.999999):
        crop = decode_crops(content, [share], 8000, 16000)[0]
        start = int(share * (len(whole) - 8000 + 1))
        assert crop.shape == (8000,)
        assert (
            min(np.abs(crop - whole[place : place + 8000]).max() for place in (start - 1, start, start + 1) if 0 <= place <= 40000) < 1e-6
        )


def test_a_clip_shorter_than_the_crop_is_padded_and_whole() -> None:
    content = encoded(tone(0.25), format="FLAC")
    crop = decode_crops(content, [0.5], 8000, 16000)[0]
    assert crop.shape == (8000,)
    assert np.count_nonzero(np.abs(crop) > 1e-4) > 3900
    assert np.abs(crop).sum() == pytest.approx(np.abs(soundfile.read(io.BytesIO(content))[0]).sum(), rel=1e-5)


def test_a_batch_is_a_function_of_seed_and_step(shards: Path) -> None:
    one, other = stream(shards), stream(shards)
    for step in (9, 0, 4):
        other.batch(step)
    for step in range(6):
        assert torch.equal(one.batch(step).waveform, other.batch(step).waveform)
        assert one.batch(step).keys == other.batch(step).keys
    assert not torch.equal(one.batch(0).waveform, stream(shards, seed=1).batch(0).waveform)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_hold_the_batch_of_one(shards: Path, ranks: int) -> None:
    for step in range(5):
        parts = [stream(shards, rank, ranks).batch(step) for rank in range(ranks)]
        whole = stream(shards).batch(step)
        assert torch.equal(torch.cat([part.waveform for part in parts]), whole.waveform)
        assert torch.equal(torch.cat([part.seeds for part in parts]), whole.seeds)


def test_ranks_must_divide_the_batch(shards: Path) -> None:
    with pytest.raises(ValueError, match="must be a multiple of the 3 ranks"):
        stream(shards, 0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("first", [0, 5])
def test_any_number_of_workers_delivers_the_same_batches_in_the_same_order(shards: Path, workers: int, first: int) -> None:
    data = ShardDataModule(config(shards, workers=workers), 16000, 0)
    data.first_step = first
    expected = stream(shards)
    for step, batch in zip(range(first, first + 7), data.train_dataloader(), strict=False):
        assert torch.equal(batch.waveform, expected.batch(step).waveform)
        assert batch.keys == expected.batch(step).keys


def broken(shards: Path, folder: Path, clips: int) -> Path:
    """Return a copy whose first clips hold no audio any more, at the same size."""
    copied(shards, folder)
    for clip in ShardSet([str(folder)]).clips[:clips]:
        with open(clip.shard, "r+b") as file:
            file.seek(clip.offset)
            file.write(b"\0" * clip.size)
    return folder


def test_a_clip_that_does_not_decode_is_named_and_shifts_nothing(shards: Path, tmp_path: Path) -> None:
    damaged, whole = stream(broken(shards, tmp_path / "broken", 1)), stream(shards)
    lost = whole.shards.clips[0].key
    count = 0
    for step in range(6):
        found, expected = damaged.batch(step), whole.batch(step)
        for row, key in enumerate(expected.keys):
            if key == lost:
                count += 1
                assert found.keys[row] != lost
                assert any(f"/{lost}: " in line for line in found.lost)
            else:
                assert found.keys[row] == key
                assert torch.equal(found.waveform[row], expected.waveform[row])
        assert torch.isfinite(found.waveform).all()
    assert count >= 2


def test_too_many_losses_end_the_run_with_the_list(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = broken(shards, tmp_path / "broken", 12)
    data = ShardDataModule(config(folder, max_lost_fraction=0.01), 16000, 0)
    name = Path(data.shards.clips[0].shard).name
    reader = stream(folder)

    def read_on() -> None:
        for step in range(100):
            data.count(reader.batch(step))

    with pytest.raises(ValueError, match=rf"more than data.max_lost_fraction allows: .*{name}"):
        read_on()
    assert capsys.readouterr().out.count("lost a clip of") == 1


def test_doppelgaengers_are_the_two_sounds_of_a_pair(shards: Path) -> None:
    reader = stream(shards, positives="doppelgaenger")
    batch = reader.batch(0)
    assert batch.waveform.shape[1] == 2
    records = {clip.key: reader.shards.record(clip) for clip in reader.shards.clips}
    for row, key in enumerate(batch.keys):
        partner = records[records[key]["pair"]]
        assert partner["pair"] == key
        assert not torch.equal(batch.waveform[row, 0], batch.waveform[row, 1])


def test_pairs_that_are_not_there_are_asked_for_in_one_line(tmp_path: Path) -> None:
    from tests.data.sounds import write
    from tests.data.test_pack import packed

    packed([write(tmp_path / "a.wav", tone(1.0))], tmp_path / "out")
    with pytest.raises(ValueError, match="these shards hold no pairs"):
        stream(tmp_path / "out", positives="doppelgaenger")
