"""Batches: a pure function of seed and step, whoever reads them, and every loss named."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.packing.shard_writer import EncodedClip, write_shards
from hear_ssl.data.shards.clip_offsets import Clip
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, write_index
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.data.stream.workers import WorkerLoader, plain_error
from hear_ssl.training.datamodule import ShardDataModule
from tests.conftest import ROOT
from tests.data.reading import batches, clip_numbers
from tests.data.shards.test_reader import believed, copied, shard_folder
from tests.data.sounds import encoded, tone


def config(shards: Path, **options: Any) -> DataConfig:
    return DataConfig(**{"shards": [str(shards)], "batch_size": 8, "crops": [CropConfig(0.5)], "workers": 0, **options})


def stream(shards: Path, rank: int = 0, ranks: int = 1, seed: int = 0, **options: Any) -> BatchStream:
    return BatchStream(ShardSet([str(shards)]), config(shards, **options), 16000, seed, rank, ranks)


def same(one: Batch, other: Batch) -> bool:
    tensors = zip((one.waveform, one.seeds), (other.waveform, other.seeds), strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and one.keys == other.keys


def lost_clips(batch: Batch) -> list[str]:
    """Return 'shard/key' of every clip lost, without the reasons."""
    return [f"{loss.shard}/{loss.key}" for loss in batch.lost]


def whole(reader: BatchStream, clip: Clip) -> Any:
    """Return all of a clip (time,) as soundfile decodes it."""
    return soundfile.read(io.BytesIO(reader.shards.audio(clip)), dtype="float32")[0]


def places_of(crop: torch.Tensor, clip: Any) -> list[int]:
    """Return where in a clip a crop was cut."""
    wanted = crop.numpy()
    starts = np.flatnonzero(clip[: len(clip) - len(wanted) + 1] == wanted[0])
    return [int(start) for start in starts if np.array_equal(clip[start : start + len(wanted)], wanted)]


def test_a_batch_is_a_function_of_seed_and_step(shards: Path) -> None:
    one, other = stream(shards), stream(shards)
    later = {step: other.batch(step) for step in (9, 0, 4)}
    for step, batch in enumerate(batches(one, 10)):
        assert same(batch, stream(shards).batch(step))
        assert step not in later or same(batch, later[step])
    assert not torch.equal(one.batch(0).waveform, stream(shards, seed=1).batch(0).waveform)


def test_iterating_starts_at_the_first_step(shards: Path) -> None:
    reader = stream(shards)
    reader.first_step = 5
    for step, batch in zip(range(5, 9), reader, strict=False):
        assert same(batch, stream(shards).batch(step))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_together_hold_the_batch_of_one(shards: Path, ranks: int) -> None:
    for step in range(5):
        parts = [stream(shards, rank, ranks).batch(step) for rank in range(ranks)]
        expected = stream(shards).batch(step)
        for name in ("waveform", "seeds"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(expected, name))
        assert [key for part in parts for key in part.keys] == expected.keys


def test_ranks_must_divide_the_batch(shards: Path) -> None:
    with pytest.raises(ValueError, match="must be a multiple of the 3 ranks"):
        stream(shards, 0, 3)


def test_crops_are_cut_from_their_clip_at_new_places_in_every_pass(shards: Path) -> None:
    reader = stream(shards, crops=[CropConfig(0.5, 3)])
    found: dict[str, list[int]] = {}
    for step in range(6):  # 24 clips, 8 in a batch: two passes
        batch = reader.batch(step)
        assert (batch.waveform.shape, batch.waveform.dtype) == ((8, 3, 8000), torch.float32)
        for row, number in enumerate(clip_numbers(reader, batch)):
            clip = reader.shards.clips[number]
            assert batch.keys[row] == clip.key
            for crop in batch.waveform[row]:
                places = places_of(crop, whole(reader, clip))
                assert places
                found.setdefault(clip.key, []).append(places[0])
    assert {len(places) for places in found.values()} == {6}
    assert all(len(set(places)) >= 5 for places in found.values())


def test_crops_longer_than_the_clips_hold_them_whole(tmp_path: Path) -> None:
    reader = stream(shard_folder(tmp_path / "shards"), batch_size=2)  # clips of 0.10 to 0.16 s
    batch = reader.batch(0)
    for row, number in enumerate(clip_numbers(reader, batch)):
        clip = whole(reader, reader.shards.clips[number])
        for crop in batch.waveform[row].numpy():
            sounding = np.flatnonzero(crop)
            assert np.array_equal(crop[sounding[0] : sounding[-1] + 1], np.trim_zeros(clip))


@pytest.mark.parametrize("workers", [0, *(pytest.param(workers, marks=pytest.mark.slow) for workers in (1, 2, 8))])
@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_any_number_of_workers_delivers_the_same_batches_in_the_same_order(shards: Path, tmp_path: Path, workers: int, first: int) -> None:
    folder = broken(shards, tmp_path / "broken", [3])
    data = ShardDataModule(config(folder, workers=workers), 16000, 0)
    data.first_step = first
    loader: DataLoader[Batch] = data.train_dataloader()
    delivered = list(islice(loader, 7))
    expected = [stream(folder).batch(step) for step in range(first, first + 7)]
    assert len(delivered) == 7
    assert all(same(one, other) for one, other in zip(delivered, expected, strict=True))
    assert [lost_clips(batch) for batch in delivered] == [lost_clips(batch) for batch in expected]
    assert any(batch.lost for batch in delivered)


def broken(shards: Path, folder: Path, numbers: list[int]) -> Path:
    """Return a copy in which some clips hold no audio any more, at the same size."""
    copied(shards, folder)
    clips = ShardSet([str(folder)]).clips
    for number in numbers:
        with open(clips[number].shard, "r+b") as file:
            file.seek(clips[number].offset)
            file.write(b"\0" * clips[number].size)
    return folder


def test_a_clip_that_does_not_decode_is_named_and_shifts_nothing(shards: Path, tmp_path: Path) -> None:
    damaged, intact = stream(broken(shards, tmp_path / "broken", [0, 5])), stream(shards)
    gone = {damaged.shards.clips[number].key: damaged.shards.clips[number].shard for number in (0, 5)}
    count = 0
    for step in range(12):
        found, expected = damaged.batch(step), intact.batch(step)
        lost = set()
        for row, key in enumerate(expected.keys):
            if key in gone:
                lost.add(f"{gone[key]}/{key}")
                number = clip_numbers(damaged, found)[row]
                assert found.keys[row] not in gone
                assert places_of(found.waveform[row, 0], whole(damaged, damaged.shards.clips[number]))
            else:
                assert found.keys[row] == key
                assert torch.equal(found.waveform[row], expected.waveform[row])
        assert set(lost_clips(found)) >= lost
        assert bool(found.lost) == bool(lost)
        assert torch.equal(found.seeds, expected.seeds)
        count += len(lost)
    assert count == 2 * 4  # 24 clips, 12 steps of 8: four passes


def test_a_replacement_is_the_same_for_any_reader(shards: Path, tmp_path: Path) -> None:
    folder = broken(shards, tmp_path / "broken", list(range(12)))
    for step in range(4):
        expected = stream(folder).batch(step)
        parts = [stream(folder, rank, 2).batch(step) for rank in range(2)]
        assert same(stream(folder).batch(step), expected)
        assert torch.equal(torch.cat([part.waveform for part in parts]), expected.waveform)
        assert [clip for part in parts for clip in lost_clips(part)] == lost_clips(expected)
        assert len(expected.lost) > 1


def test_shards_without_a_clip_that_decodes_end_in_one_line(tmp_path: Path) -> None:
    folder = believed(broken(shard_folder(tmp_path / "whole"), tmp_path / "broken", list(range(7))))
    with pytest.raises(ValueError, match=r"^20 clips in a row cannot be read; the first: .*/a-000\d: does not decode"):
        stream(folder).batch(0)


@pytest.mark.slow
def test_what_ends_a_worker_is_one_line_without_its_traceback(tmp_path: Path) -> None:
    folder = believed(broken(shard_folder(tmp_path / "whole"), tmp_path / "broken", list(range(7))))
    data = ShardDataModule(config(folder, workers=1, max_lost_fraction=1.0), 16000, 0)
    with pytest.raises(ValueError, match=r"^20 clips in a row cannot be read; the first: .*/a-000\d: does not decode [^\n]*$") as caught:
        next(iter(data.train_dataloader()))
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionRefusedError(111, "Connection refused"),
        BrokenPipeError(32, "Broken pipe"),
        EOFError(),
        OSError("got end of file during message"),
        RuntimeError("DataLoader worker (pid(s) 4711) exited unexpectedly"),
        RuntimeError("Pin memory thread exited unexpectedly"),
    ],
    ids=lambda error: str(error) or type(error).__name__,
)
def test_however_a_killed_worker_shows_itself_it_is_one_line(shards: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def torn(loader: DataLoader[Batch]) -> Iterator[Batch]:
        yield stream(shards).batch(0)
        raise error

    monkeypatch.setattr(DataLoader, "__iter__", torn)
    received = iter(WorkerLoader(stream(shards), batch_size=None, num_workers=1))
    assert same(next(received), stream(shards).batch(0))
    with pytest.raises(OSError, match=r"^a decoding worker died \(.+\); is memory short\? Lower data.workers, then --resume$"):
        next(received)
    here = iter(WorkerLoader(stream(shards), batch_size=None))
    next(here)
    with pytest.raises(type(error)) as caught:
        next(here)
    assert caught.value is error


OPEN_ITERATOR = """
import sys
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.training.datamodule import ShardDataModule
if __name__ == "__main__":
    data = ShardDataModule(DataConfig(shards=sys.argv[1:], batch_size=4, crops=[CropConfig(0.5)], workers=1), 16000, 0)
    received = iter(data.train_dataloader())
    print(len(next(received).keys))
"""


@pytest.mark.slow
def test_a_script_that_leaves_its_iterator_open_ends(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(OPEN_ITERATOR)
    command = [sys.executable, str(tmp_path / "script.py"), str(shards)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("Caught RuntimeError in DataLoader worker process 0.\n")]
)
def test_what_no_worker_died_of_stays_as_it_is(error: Exception) -> None:
    assert plain_error(error) is None


def test_the_partial_batch_at_the_end_of_a_pass_is_named(shards: Path) -> None:
    lines = {size: ShardDataModule(config(shards, batch_size=size), 16000, 0).pass_line() for size in (8, 10)}
    assert lines[8] == "a pass is 24 clips, 3 batches"
    assert lines[10] == "a pass is 24 clips, 2 batches; the 4 clips left over begin a batch that the next pass completes"


def test_a_shard_that_vanishes_is_a_loss_and_no_crash(tmp_path: Path) -> None:
    reader = stream(shard_folder(tmp_path / "shards"), batch_size=6)
    (tmp_path / "shards" / "train-000000.tar").unlink()
    batch = reader.batch(0)
    assert set(batch.keys) <= {f"a-{number:04d}" for number in range(3, 7)}
    assert all(loss.shard.endswith("train-000000.tar") and "\n" not in str(loss) for loss in batch.lost)
    assert len(batch.lost) >= 2


def test_too_many_losses_end_the_run_with_the_list(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = broken(shards, tmp_path / "broken", list(range(12)))
    data = ShardDataModule(config(folder, max_lost_fraction=0.01), 16000, 0)
    name = Path(data.shards.clips[0].shard).name
    reader = stream(folder)

    def read_on() -> None:
        for step in range(100):
            data.count(reader.batch(step))

    with pytest.raises(ValueError, match=rf"more than data.max_lost_fraction allows: .*{name}"):
        read_on()
    assert capsys.readouterr().out.count("lost a clip of") == 1


def test_another_rate_than_the_shards_is_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match=r"the shards have 16000 Hz, the model wants 32000 Hz; pack again with --sample-rate 32000"):
        ShardDataModule(config(shards), 32000, 0)


def test_doppelgaengers_are_the_two_sounds_of_a_pair_at_one_place(shards: Path) -> None:
    reader = stream(shards, positives="pairs")
    clips = {clip.key: clip for clip in reader.shards.clips}
    seen = set()
    for step in range(3):
        batch = reader.batch(step)
        assert batch.waveform.shape == (8, 2, 8000)
        assert not batch.lost
        for row, key in enumerate(batch.keys):
            seen.add(key)
            partner = reader.shards.record(clips[key])["pair"]
            assert reader.shards.record(clips[partner])["pair"] == key != partner
            both = [whole(reader, clips[name]) for name in (key, partner)]
            ways = [places_of(crop, clip) for crop, clip in zip(batch.waveform[row], both, strict=True)]
            shares = [[(place + 0.5) / (len(clip) - 7999) for place in places] for places, clip in zip(ways, both, strict=True)]
            near = 1.0 / min(len(clip) - 7999 for clip in both)
            assert any(abs(one - other) <= near for one in shares[0] for other in shares[1])
    assert seen == set(clips)


def test_clips_without_a_pair_give_two_crops_beside_doppelgaengers(shards: Path, tmp_path: Path) -> None:
    alone = believed(shard_folder(tmp_path / "alone"))
    reader = BatchStream(ShardSet([str(alone), str(shards)]), config(alone, positives="pairs", weights=[1.0, 1.0]), 16000, 0)
    paired = {clip.key for clip in ShardSet([str(shards)]).clips}
    clips = {clip.key: clip for clip in reader.shards.clips}
    batch = reader.batch(0)
    assert not batch.lost
    assert 0 < len(paired & set(batch.keys)) < len(batch.keys)
    for row, key in enumerate(batch.keys):
        partner = reader.shards.record(clips[key]).get("pair")
        second, sound = batch.waveform[row, 1], whole(reader, clips[partner or key])
        if partner is None:  # shorter than a crop, somewhere within silence
            assert second[second != 0].tolist() == sound[sound != 0].tolist()
        else:
            assert places_of(second, sound)


def test_a_clip_whose_partner_is_damaged_is_replaced(shards: Path, tmp_path: Path) -> None:
    reader = stream(broken(shards, tmp_path / "broken", [1]), positives="pairs")
    alone = reader.shards.record(reader.shards.clips[1])["pair"]
    lost = {clip.rpartition("/")[2] for step in range(3) for clip in lost_clips(reader.batch(step))}
    assert lost == {alone, reader.shards.clips[1].key}
    assert all(alone not in reader.batch(step).keys for step in range(3))


def test_pairs_that_are_not_there_are_asked_for_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these shards hold no pairs"):
        stream(believed(shard_folder(tmp_path / "shards")), positives="pairs")


def paired(folder: Path, frequencies: list[float], pairs: dict[int, int], per_shard: int = 2, prefix: str = "x") -> Path:
    """Write one tone a clip; `pairs` says which clip is the partner of which."""
    clips = []
    for number, frequency in enumerate(frequencies):
        record = {"seconds": 1.0, **({"pair": f"{prefix}{pairs[number]}"} if number in pairs else {})}
        clips.append(EncodedClip(f"{prefix}{number}", "wav", encoded(tone(1.0, frequency)), record))
    folder.mkdir()
    shards = write_shards(folder, "train", clips, len(clips), per_shard)
    write_index(folder, ShardIndex(16000, "wav", "train", 0.0, len(clips), shards, (SourceRecord("x", "MIT", 0.0, len(clips)),), {}))
    return folder


def tones(reader: BatchStream, steps: int = 1) -> set[tuple[int, ...]]:
    """Return the tones in Hz of the crops of every row read; nothing may be lost."""
    found = set()
    for batch in batches(reader, steps):
        assert batch.lost == []
        found |= {tuple(row) for row in (2 * np.abs(np.fft.rfft(batch.waveform.numpy(), axis=-1)).argmax(-1)).tolist()}
    return found


def test_clips_of_one_key_in_two_folders_meet_the_partners_of_their_own(tmp_path: Path) -> None:
    circle = {0: 1, 1: 2, 2: 0}  # across shards
    one = paired(tmp_path / "one", [300.0, 400.0, 500.0], circle)
    two = paired(tmp_path / "two", [600.0, 700.0, 800.0], circle)
    reader = BatchStream(ShardSet([str(one), str(two)]), config(one, positives="pairs", batch_size=6), 16000, 0)
    assert tones(reader) == {(300, 400), (400, 500), (500, 300), (600, 700), (700, 800), (800, 600)}


def test_a_folder_whose_first_clips_have_no_pair_gives_the_pairs_of_the_others(tmp_path: Path) -> None:
    folder = paired(tmp_path / "late", [300.0, 400.0, 500.0, 600.0], {2: 3, 3: 2})
    assert tones(stream(folder, positives="pairs", batch_size=4)) == {(300, 300), (400, 400), (500, 600), (600, 500)}


def test_pairs_of_a_folder_given_shard_by_shard_meet(tmp_path: Path) -> None:
    folder = paired(tmp_path / "shards", [300.0, 400.0, 500.0], {0: 1, 1: 2, 2: 0})
    entries = [f"{folder}/train-00000{number}.tar" for number in range(2)]
    reader = BatchStream(ShardSet(entries), config(folder, positives="pairs", batch_size=3), 16000, 0)
    assert tones(reader) == {(300, 400), (400, 500), (500, 300)}


def test_a_shard_that_is_missing_costs_no_more_with_pairs_than_without(tmp_path: Path) -> None:
    folder = paired(tmp_path / "shards", [300.0, 400.0, 500.0, 600.0, 700.0, 800.0], {n: n ^ 1 for n in range(6)})
    (folder / "train-000000.tar").unlink()
    data = ShardDataModule(config(folder, positives="pairs", batch_size=6, max_lost_fraction=0.5), 16000, 0)
    batch = BatchStream(data.shards, data.config, 16000, 0).batch(0)
    assert set(batch.keys) == {"x2", "x3", "x4", "x5"}
    assert all(loss.shard.endswith("train-000000.tar") for loss in batch.lost)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"weights": [float("inf")]}, "give a finite one above 0 for each"),
        ({"weights": [float("nan")]}, "give a finite one above 0 for each"),
        ({"weights": [1.0, 1.0]}, "2 numbers for 1 source"),
        ({"positives": "pairs"}, "hold no pairs"),
    ],
)
def test_what_the_shards_cannot_give_is_said_before_the_run_begins(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    folder = shard_folder(tmp_path / "shards")
    with pytest.raises(ValueError, match=line):
        ShardDataModule(config(folder, **options), 16000, 0)


def test_crops_of_several_lengths_come_from_one_clip_and_the_first_are_those_alone(shards: Path) -> None:
    both = stream(shards, crops=[CropConfig(0.5, 2), CropConfig(0.125, 3)])
    batch = both.batch(0)
    assert [tuple(waveform.shape) for waveform in batch.waveforms] == [(8, 2, 8000), (8, 3, 2000)]
    assert [tuple(crop.shape) for crop in batch.crops()] == [(8, 8000)] * 2 + [(8, 2000)] * 3
    assert torch.equal(batch.waveforms[0], stream(shards).batch(0).waveform)
    clips = {clip.key: clip for clip in both.shards.clips}
    for row, key in enumerate(batch.keys):
        for crop in batch.waveforms[1][row]:
            assert places_of(crop, whole(both, clips[key]))
