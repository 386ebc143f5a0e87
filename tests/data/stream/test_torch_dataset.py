"""Datasets in Python: the order and the crops of packed shards, whatever ranks, workers and resumes, and one line for what is none."""

from __future__ import annotations

import io
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.data.stream.dataset_worker import check_loads
from hear_ssl.data.stream.resample import decode_any_rate
from hear_ssl.data.stream.sample_order import hash_integers
from hear_ssl.data.stream.torch_dataset import DatasetClips, DatasetStream, samples_of
from hear_ssl.training.dataset_datamodule import DatasetDataModule
from tests.data.sounds import encoded, tone
from tests.data.stream.some_datasets import Fixed, Tones, Unloadable

RATE = 16000
CONFIG = DataConfig(batch_size=8, crops=[CropConfig(0.3, 2), CropConfig(0.1, 1)], workers=0)


def stream(dataset: Any, config: DataConfig = CONFIG, seed: int = 3) -> DatasetStream:
    return DatasetStream(DatasetClips(dataset), config, RATE, seed)


def same(first: Batch, second: Batch) -> bool:
    pairs = zip([*first.waveforms, first.seeds], [*second.waveforms, second.seeds], strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.fixture(scope="module")
def waveforms(shards: Path) -> list[Any]:
    """Return the samples of the clips of the corpus in their order."""
    clips = ShardSet([str(shards)])
    return [soundfile.read(io.BytesIO(clips.audio(clip)), dtype="float32")[0] for clip in clips.clips]


def test_the_batches_are_those_of_packed_shards(shards: Path, waveforms: list[Any]) -> None:
    packed = BatchStream(ShardSet([str(shards)]), CONFIG, RATE, 3)
    ours = stream(waveforms)  # a list is a map-style dataset
    for step in (0, 1, 2, 7):
        assert same(packed.batch(step), ours.batch(step))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_a_batch(ranks: int) -> None:
    ours = stream(Tones())
    whole = ours.batch(4)
    parts = []
    for rank in range(ranks):
        ours.share(rank, ranks)
        parts.append(ours.batch(4))
    assert torch.equal(torch.cat([part.waveform for part in parts]), whole.waveform)
    assert [key for part in parts for key in part.keys] == whole.keys
    with pytest.raises(ValueError, match="must be a multiple of the 3 ranks"):
        ours.share(0, 3)


@pytest.mark.parametrize("dataset", [Tones(noise=0.1), Tones(rate=22050)])
def test_workers_and_a_resume_change_nothing(dataset: Tones) -> None:
    ours = stream(dataset)
    expected = [ours.batch(step) for step in range(9)]
    data = DatasetDataModule(replace(CONFIG, workers=2), RATE, 3, dataset)
    for first in (0, 5):
        data.first_step = first
        loaded = iter(data.train_dataloader())
        assert all(same(next(loaded), batch) for batch in expected[first:])
        del loaded


def test_what_a_dataset_draws_follows_from_the_clip_alone() -> None:
    first, second = stream(Tones(noise=0.1)), stream(Tones(noise=0.1))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = first.batch(2)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5), np.random.rand(3), random.random()
    second.batch(0)
    assert same(one, second.batch(2))
    assert not torch.equal(one.waveform, stream(Tones()).batch(2).waveform)
    assert not torch.equal(one.waveform, stream(Tones(noise=0.1), seed=4).batch(2).waveform)


def test_a_pass_has_every_clip_once() -> None:
    ours = stream(Tones(24))
    assert sorted(int(key) for step in range(3) for key in ours.batch(step).keys) == list(range(24))
    counted = [ours.batch(step).streamed.get(0, (0, 0.0)) for step in range(4)]
    assert [clips for clips, _ in counted] == [8, 8, 8, 0]
    assert sum(seconds for _, seconds in counted) == pytest.approx(sum(0.25 + 0.05 * number for number in range(24)), abs=1e-3)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 44101])
@pytest.mark.parametrize("seconds", [0.05, 2.0])
def test_another_rate_is_resampled_as_in_shards(rate: int, seconds: float) -> None:
    waveform = np.round(tone(seconds, 440.0, rate) * 32767).astype(np.int16)
    ours, expected = np.empty((2, 4800), np.float32), np.empty((2, 4800), np.float32)
    DatasetClips(Fixed((waveform, rate))).read([ours], 0, 5, RATE)
    decode_any_rate(expected, encoded(waveform, rate, "FLAC"), starts_of(5), RATE)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def starts_of(seed: int) -> list[float]:
    return [hash_integers(seed, 4, crop) / 2**63 for crop in range(2)]


STEREO = torch.stack([torch.full((400,), 0.5), torch.full((400,), -0.25)])


@pytest.mark.parametrize(
    ("item", "value", "rate"),
    [
        (STEREO[0], 0.5, RATE),
        (STEREO, 0.125, RATE),
        (STEREO.numpy(), 0.125, RATE),
        ((STEREO, 8000), 0.125, 8000),
        ([STEREO.double(), torch.tensor(44100), "label", 7], 0.125, 44100),
        ((STEREO.half(),), 0.125, RATE),
        (STEREO.bfloat16(), 0.125, RATE),
        ((STEREO * 2**15).to(torch.int16), 0.125, RATE),
        ((STEREO * 2**31).to(torch.int32), 0.125, RATE),
        ((STEREO * 128 + 128).to(torch.uint8), 0.125, RATE),
        (STEREO.clone().requires_grad_(), 0.125, RATE),
        (np.asfortranarray(STEREO.numpy()).T[:, :1].T, 0.5, RATE),
    ],
)
def test_kinds_of_items(item: Any, value: float, rate: int) -> None:
    samples, found = samples_of(item, RATE)
    assert (samples.dtype, samples.shape, found) == (np.float32, (400,), rate)
    assert np.allclose(samples, value)
    assert samples.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"audio": STEREO}, r"is of type dict; give a waveform \(time,\) or \(channels, time\), or a tuple"),
        ("a.wav", "is of type str"),
        ((), "is of type tuple"),
        ((STEREO, 3), "has 3 after its waveform, which is not a sample rate"),
        ((STEREO, "label"), "has 'label' after its waveform"),
        ((STEREO, torch.tensor([8000, 1])), "after its waveform"),
        (STEREO.T, r"has the shape \(400, 2\); give \(time,\), or \(channels, time\)"),
        (STEREO[None], r"has the shape \(1, 2, 400\)"),
        (torch.empty(0), r"has the shape \(0,\)"),
        (torch.zeros(4, dtype=torch.int64), "has samples of type int64"),
        (torch.zeros(4, dtype=torch.complex64), "has samples of type complex64"),
        (torch.full((400,), float("nan")), "not finite"),
        (OSError("the disk is gone"), "the disk is gone"),
    ],
)
def test_items_that_are_no_sound_are_named(item: Any, line: str) -> None:
    with pytest.raises(ValueError, match=rf"20 clips in a row cannot be read; the first: Fixed/clip \d+: .*{line}"):
        stream(Fixed(item)).batch(0)


def test_a_mistake_in_a_dataset_keeps_its_traceback() -> None:
    with pytest.raises(KeyError, match="nothing"):
        stream(Fixed(KeyError("nothing"))).batch(0)


def test_an_unreadable_clip_is_counted_and_another_takes_its_place() -> None:
    items: list[Any] = [torch.full((8000,), 0.1)] * 20
    items[4] = torch.empty(0)
    ours = stream(items)
    batches = [ours.batch(step) for step in range(5)]
    lost = [str(loss) for batch in batches for loss in batch.lost]
    assert lost == ["list/clip 4: has the shape (0,); give (time,), or (channels, time) with at most 256 channels"] * len(lost)
    assert len(lost) == 2
    assert all(len(batch.keys) == 8 for batch in batches)


def test_datasets_that_cannot_be_trained_on_are_one_line() -> None:
    class Streamed(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([torch.zeros(100)])

    for wrong, line in (
        (Streamed(), r"is of type Streamed; give a map-style dataset, with len\(dataset\) and dataset\[number\]"),
        (iter([1]), "is of type list_iterator"),
        (7, "is of type int"),
        ([], "the dataset list is empty"),
        (Tones(split="test"), "has the split 'test': refused by the HEAR rule"),
        (Subset(Tones(subset="testing"), [0, 1]), "has the split 'testing': refused"),
        (ConcatDataset([Tones(), Tones(split="eval")]), "has the split 'eval': refused"),
    ):
        with pytest.raises(ValueError, match=line):
            DatasetClips(wrong)
    assert DatasetClips(ConcatDataset([Tones(split="train"), Tones(split="dev")])).split == "train, dev"
    assert DatasetClips(TensorDataset(torch.zeros(4, 100))).split == "unknown"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"shards": ["x"]}, r"data\.shards is \['x'\], and a dataset is given; leave one"),
        ({"weights": [1.0]}, r"data\.weights is \[1\.0\], and a dataset"),
        ({"window_shards": 3}, r"data\.window_shards is 3, and"),
        ({"positives": "pairs"}, r"data\.positives=pairs needs packed shards"),
    ],
)
def test_keys_that_need_shards_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        stream(Tones(), replace(CONFIG, **change))


def test_a_dataset_that_a_worker_cannot_load_is_one_line_that_names_the_remedy() -> None:
    class Local(Fixed):
        pass

    for wrong in (Local(STEREO), Tones(transform=lambda waveform: waveform), Tones(lock=threading.Lock()), Unloadable(STEREO)):
        with pytest.raises(ValueError, match=r"decoding workers cannot load the dataset \(.+\); .* or set data\.workers=0") as caught:
            DatasetDataModule(replace(CONFIG, workers=1), RATE, 0, wrong)
        assert "\n" not in str(caught.value)
        DatasetDataModule(CONFIG, RATE, 0, wrong)
    check_loads(Tones())
    check_loads(TensorDataset(torch.zeros(4, 100)))


@pytest.fixture(scope="module")
def hugging_face(shards: Path) -> Any:
    """Return a Hugging Face dataset of the clips of the corpus, and other columns."""
    datasets = pytest.importorskip("datasets")
    clips = ShardSet([str(shards)])
    rows = [{"bytes": clips.audio(clip), "path": f"{clip.key}.flac"} for clip in clips.clips]
    dataset = datasets.Dataset.from_dict({"label": range(len(rows)), "audio": rows}, split="train")
    return dataset.cast_column("audio", datasets.Audio(sampling_rate=44100))


def test_a_hugging_face_dataset_gives_the_batches_of_packed_shards(shards: Path, hugging_face: Any) -> None:
    packed = BatchStream(ShardSet([str(shards)]), CONFIG, RATE, 3)
    for dataset in (hugging_face, hugging_face.with_format("torch")):
        ours = stream(dataset)
        assert all(same(packed.batch(step), ours.batch(step)) for step in (0, 3))
    assert ours.clips.split == "train"


def test_a_hugging_face_dataset_reaches_workers(hugging_face: Any) -> None:
    expected = [stream(hugging_face).batch(step) for step in range(4)]
    loaded = iter(DatasetDataModule(replace(CONFIG, workers=2), RATE, 3, hugging_face).train_dataloader())
    assert all(same(next(loaded), batch) for batch in expected)


def test_hugging_face_datasets_that_cannot_be_trained_on_are_one_line(hugging_face: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for wrong, line in (
        (datasets.DatasetDict(train=hugging_face, test=hugging_face), r"datasets\.DatasetDict .*: one of its splits \(train, test\)"),
        (hugging_face.to_iterable_dataset(), r"datasets\.IterableDataset cannot be trained on; .* not streamed"),
        (hugging_face.select_columns(["label"]), "has no Audio column, only label; give one with one Audio column"),
        (hugging_face.add_column("other", hugging_face["label"]).rename_column("label", "x").remove_columns(["audio"]), "no Audio column"),
        (datasets.Dataset.from_dict({"audio": [1]}, split="test").cast_column("audio", datasets.Value("int8")), "no Audio column"),
        (hugging_face.select([]), "is empty"),
    ):
        with pytest.raises(ValueError, match=line):
            DatasetClips(wrong)
    (tmp_path / "a.flac").write_bytes(encoded(tone(1.0), format="FLAC"))
    rows = [{"bytes": None, "path": str(tmp_path / "a.flac")}, {"bytes": None, "path": None}] * 10
    files = datasets.Dataset.from_dict({"audio": rows}, split="validation").cast_column("audio", datasets.Audio())
    lost = [str(loss) for loss in stream(files).batch(0).lost]
    assert {line.partition(": ")[2] for line in lost} == {"its row has neither audio bytes nor a path"}
    marked = datasets.Dataset.from_dict({"audio": rows}, split="test").cast_column("audio", datasets.Audio())
    with pytest.raises(ValueError, match="has the split 'test': refused by the HEAR rule"):
        DatasetClips(marked)
