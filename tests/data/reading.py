"""Read crops and batches in the test's own process, without a loader."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.data.stream.decode import Waveform, decode_into


def decode_crops(content: bytes, starts: list[float], time: int, sample_rate: int) -> list[Waveform]:
    """Return crops (time,) that start at shares 0 to 1 of the positions where a whole crop fits."""
    crops = np.empty((len(starts), time), np.float32)
    decode_into(crops, content, starts, sample_rate)
    return list(crops)


def batches(stream: BatchStream, count: int) -> Iterator[Batch]:
    """Yield the next `count` batches."""
    for step in range(stream.first_step, stream.first_step + count):
        yield stream.batch(step)


def clip_numbers(reader: BatchStream, batch: Batch) -> list[int]:
    """Return the number in the dataset of every clip of a batch; keys must be unique."""
    numbers = {clip.key: number for number, clip in enumerate(reader.shards.clips)}
    return [numbers[key] for key in batch.keys]
