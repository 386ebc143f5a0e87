"""Batches from a Python dataset: a map-style torch dataset of waveforms, or a Hugging Face dataset with an Audio column.

The order of the clips is computed as for packed shards. Random numbers that a dataset draws for a clip are seeded by the clip, so that a
resumed run has the same clips. A Hugging Face dataset returns encoded bytes (`decode=False`), of which only the crops are decoded.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_ssl.data.options import DataConfig
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import OrderedStream
from hear_ssl.data.stream.decode import LARGEST, Waveform
from hear_ssl.data.stream.resample import HIGHEST_RATE, LOWEST_RATE, decode_any_rate, resample_into
from hear_ssl.data.stream.sample_order import SampleOrder, hash_integers
from hear_ssl.model.audio_file import MOST_CHANNELS
from hear_ssl.test_data_rule import RULE, marks_test

ITEMS = "a waveform (time,) or (channels, time), or a tuple (waveform, sample rate in Hz)"
SCALES = {
    np.dtype(np.int16): (0.0, 2.0**15),
    np.dtype(np.int32): (0.0, 2.0**31),
    np.dtype(np.uint8): (128.0, 128.0),
}  # value of zero, full scale


class DatasetClips:
    """The clips of a dataset, its name, and its split if it states one."""

    def __init__(self, dataset: Any) -> None:
        """Check a dataset. Raises ValueError with the allowed kinds when it is unusable for training or marked as test data."""
        self.dataset, self.column = audio_column(dataset)
        info = getattr(dataset, "info", None)
        names = (getattr(info, "dataset_name", None), getattr(info, "builder_name", None), type(dataset).__name__)
        self.name = next(name for name in names if name and isinstance(name, str))
        if not (hasattr(type(dataset), "__getitem__") and hasattr(type(dataset), "__len__")):
            raise ValueError(f"data is of type {type(dataset).__name__}; give a map-style dataset, with len(dataset) and dataset[number]")
        self.count = len(dataset)
        if not self.count:
            raise ValueError(f"the dataset {self.name} is empty")
        splits = [str(split) for part in inner_datasets(dataset) for split in stated_splits(part)]
        marked = next(filter(marks_test, splits), "")
        if marked:
            raise ValueError(f"the dataset {self.name} has the split {marked!r}: {RULE}")
        self.split = ", ".join(dict.fromkeys(splits)) or "unknown"

    def __len__(self) -> int:
        return self.count

    def read(self, crops: list[Waveform], number: int, seed: int, sample_rate: int) -> float:
        """Fill the crops of each length (crops, time) from a clip; return the clip's length in seconds.

        Raises ValueError or OSError when the clip is unreadable or not audio, and whatever else the dataset raises.
        """
        with drawing_from(hash_integers(seed, 9)):
            item = self.dataset[number]
        content = encoded_bytes(item[self.column]) if self.column else b""
        samples, rate = (np.empty(0, np.float32), sample_rate) if self.column else samples_of(item, sample_rate)
        first, seconds = 0, 0.0
        for group in crops:
            starts = [hash_integers(seed, 4, first + crop) / 2**63 for crop in range(len(group))]
            if self.column:
                seconds = decode_any_rate(group, content, starts, sample_rate)
            else:
                seconds = resample_into(group, samples, rate, starts, sample_rate)
            first += len(group)
            if not (group.max() < LARGEST and group.min() > -LARGEST):  # nor NaN
                raise ValueError("has samples that are not finite, or far beyond 1")
        return seconds


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and the datasets inside it, of which it is a subset (torch's Subset) or a concatenation."""
    yield dataset
    inner = getattr(dataset, "datasets", None)
    for part in inner if isinstance(inner, (list, tuple)) else [getattr(dataset, "dataset", None)]:
        if part is not None:
            yield from inner_datasets(part)


def stated_splits(dataset: Any) -> list[str]:
    """Return the splits stated by a dataset's attributes `split` or `subset`, as in torchaudio and Hugging Face."""
    found = [getattr(dataset, name, None) for name in ("split", "subset")]
    return [str(split) for split in found if isinstance(split, str) or type(split).__name__ == "NamedSplit"]


def audio_column(dataset: Any) -> tuple[Any, str]:
    """Return a Hugging Face dataset that returns the bytes of its Audio column, and the column's name; any other dataset with ''.

    Raises ValueError for a Hugging Face dataset without such a column or with several, with several splits, or in streaming mode.
    """
    library = sys.modules.get("datasets")  # imported already if the dataset is one of its own
    if library is None or not type(dataset).__module__.startswith("datasets."):
        return dataset, ""
    if not isinstance(dataset, library.Dataset):
        splits = f"one of its splits ({', '.join(map(str, dataset))})" if isinstance(dataset, dict) else "one that is not streamed"
        raise ValueError(f"a datasets.{type(dataset).__name__} cannot be trained on; give a datasets.Dataset: {splits}")
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, library.Audio)]
    if len(columns) != 1:
        given = f"the Audio columns {', '.join(columns)}" if columns else f"no Audio column, only {', '.join(dataset.features)}"
        raise ValueError(f"the dataset has {given}; give one with one Audio column (select_columns, or cast_column with datasets.Audio())")
    plain = dataset.with_format(None).select_columns(columns)
    return plain.cast_column(columns[0], library.Audio(decode=False)), columns[0]


def encoded_bytes(value: Any) -> bytes:
    """Return the encoded audio of a row of an Audio column. Raises ValueError or OSError when there is none."""
    if not isinstance(value, dict):
        raise ValueError("its row has no audio")
    if value.get("bytes"):
        return bytes(value["bytes"])
    if not value.get("path"):
        raise ValueError("its row has neither audio bytes nor a path")
    with open(value["path"], "rb") as file:
        return file.read()


def samples_of(item: Any, sample_rate: int) -> tuple[Waveform, int]:
    """Return the mean of the channels (time,) of a dataset item, and its sample rate in Hz, by default that of the model.

    Raises ValueError when it is neither a waveform nor a tuple that begins with a waveform and its sample rate.
    """
    rate: Any = sample_rate
    if isinstance(item, (tuple, list)) and item:
        item, rate = item[0], item[1] if len(item) > 1 else sample_rate
    if isinstance(rate, (Tensor, np.ndarray)) and rate.ndim == 0:
        rate = rate.item()
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"has {rate!r:.40} after its waveform, which is not a sample rate ({LOWEST_RATE} to {HIGHEST_RATE} Hz); give {ITEMS}"
        )
    if isinstance(item, Tensor):
        item = item.detach().cpu().to(torch.float32 if item.is_floating_point() else item.dtype).numpy()
    if not isinstance(item, np.ndarray):
        raise ValueError(f"is of type {type(item).__name__}; give {ITEMS}")
    if item.ndim not in (1, 2) or not item.size or (item.ndim == 2 and len(item) > MOST_CHANNELS):
        raise ValueError(f"has the shape {item.shape}; give (time,), or (channels, time) with at most {MOST_CHANNELS} channels")
    if item.dtype in SCALES:
        zero, scale = SCALES[item.dtype]
        item = (item.astype(np.float64) - zero) / scale
    if item.dtype.kind != "f":
        raise ValueError(f"has samples of type {item.dtype}; give floats in -1 to 1, int16, int32 or uint8")
    return np.ascontiguousarray(item if item.ndim == 1 else item.mean(axis=0), np.float32), int(rate)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch during the block; then restore them."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


class DatasetStream(OrderedStream):
    """Endless batches of one rank from a dataset."""

    def __init__(self, clips: DatasetClips, config: DataConfig, sample_rate: int, seed: int) -> None:
        """Prepare the stream. Raises ValueError for keys of `data` that need shards."""
        needing = {"shards": config.shards, "weights": config.weights, "window_shards": config.window_shards}
        for key, value in needing.items():
            if value:
                raise ValueError(f"data.{key} is {value}, and a dataset is given; leave one of them out")
        if config.positives != "crops":
            raise ValueError("data.positives=pairs needs packed shards, whose clips name their pairs; set positives=crops")
        super().__init__(SampleOrder([len(clips)], seed), config, sample_rate, seed)
        self.clips = clips
        self.lengths: list[float] = []

    def batch(self, step: int) -> Batch:
        """Return this rank's rows of the global batch of a step, with the clips and seconds that belong to the first pass."""
        self.lengths = []
        batch = super().batch(step)
        rows = self.order.batch(step, self.config.batch_size, self.rank, self.ranks)
        first = [seconds for seconds, position in zip(self.lengths, rows, strict=True) if position < len(self.clips)]
        if first:
            batch.streamed = {0: (len(first), sum(first))}
        return batch

    def fill(self, crops: list[Waveform], number: int, seed: int) -> str:
        """Fill the crops of each length (crops, time) from a clip and return its number. Raises ValueError or OSError when that fails."""
        self.lengths.append(self.clips.read(crops, number, seed, self.sample_rate))
        return str(number)

    def place(self, number: int) -> tuple[str, str]:
        """Return the dataset's name and the number of a clip for a report."""
        return self.clips.name, f"clip {number}"
