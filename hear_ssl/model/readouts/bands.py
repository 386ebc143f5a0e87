"""Readouts of the frontend's bands, without the encoder: statistics of a clip, frames of a token, means around a timestamp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import option
from ..pooling import TimePool, exact
from .base import Chunk, Readout

BANDS_AT_ONCE = 64  # bounds the memory of float64 sums over the timestamps of a long clip


class Bands(Readout):
    """Mean, standard deviation and maximum over time of every band."""

    kinds = ("scene",)

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.width = 3 * n_mels

    def start(self, out: Tensor) -> TimePool:
        """Return an empty pool."""
        return TimePool("mean,std,max")

    def add(self, state: TimePool, chunk: Chunk) -> None:
        """Add the frames."""
        state.add([chunk.features.transpose(1, 2)])

    def result(self, state: TimePool) -> Tensor:
        """Return the statistics (batch, 3 * n_mels)."""
        return state.result()


class Frames(Readout):
    """The bands of each frame of the token."""

    kinds = ("timestamp",)

    def __init__(self, n_mels: int, time_stride: int) -> None:
        super().__init__()
        self.time_stride, self.width = time_stride, time_stride * n_mels

    def add(self, state: Tensor, chunk: Chunk) -> None:
        """Write the frames."""
        state[:, chunk.timestamps] = frames_of(chunk.features, self.time_stride).flatten(2)


class Around(Readout):
    """Mean bands before and after each timestamp, in windows that end at the given distances from it.

    At the ends of a clip a window contains the timestamps inside the clip, at least the outermost one.
    """

    @dataclass(frozen=True)
    class Options:
        """The windows."""

        ms: Tuple[float, ...] = option((100.0, 300.0), "distances from the timestamp at which windows end, rising", "ms", 1.0, 60000.0)

    kinds = ("timestamp",)

    def __init__(self, n_mels: int, time_stride: int, hop_samples: int, sample_rate: int, ms: Sequence[float] = Options.ms) -> None:
        """Raises ValueError when a window would have no timestamp."""
        super().__init__()
        self.n_mels, self.time_stride = n_mels, time_stride
        self.windows = windows_of(ms, hop_samples * 1000.0 / sample_rate)
        self.width = len(self.windows) * n_mels

    def add(self, state: Tensor, chunk: Chunk) -> None:
        """Write the mean bands of each token into the space of the first window, from which `result` computes the windows."""
        state[:, chunk.timestamps, : self.n_mels] = frames_of(chunk.features, self.time_stride).contiguous().mean(2)

    def result(self, state: Tensor) -> Tensor:
        """Return the means (batch, timestamps, windows * n_mels): before, after, by distance."""
        count = state.shape[1]
        around = state.view(*state.shape[:2], len(self.windows), self.n_mels)
        for start in range(0, self.n_mels, BANDS_AT_ONCE):
            bands = slice(start, start + BANDS_AT_ONCE)
            sums = F.pad(exact(around[:, :, 0, bands]).cumsum(1), (0, 0, 1, 0))  # (batch, 1 + timestamps, bands)
            places = torch.arange(count, device=sums.device)
            for index, (first, last) in enumerate(self.windows):
                begin, end = (places + first).clamp(0, count - 1), (places + last).clamp(0, count - 1) + 1
                means = (sums[:, end] - sums[:, begin]) / (end - begin).unsqueeze(1)
                around[:, :, index, bands] = means.float().to(around.device)
        return state


def frames_of(features: Tensor, time_stride: int) -> Tensor:
    """Return features (batch, n_mels, tokens * time_stride) as the frames of each token (batch, tokens, time_stride, n_mels)."""
    return features.reshape(*features.shape[:2], -1, time_stride).permute(0, 2, 3, 1)


def windows_of(distances_ms: Sequence[float], hop_ms: float) -> List[Tuple[int, int]]:
    """Return the first and last timestamp of each window, relative to the current one: before, after, by distance.

    Raises ValueError when a window would have no timestamp.
    """
    windows, near = [], 0
    for distance in distances_ms:
        far = round(distance / hop_ms)
        if far <= near:
            raise ValueError(f"ms is {list(distances_ms)}; it must rise by at least the {hop_ms:g} ms between two timestamps")
        windows += [(-far, -near - 1), (near + 1, far)]
        near = far
    if not windows:
        raise ValueError("ms is empty; give the distances at which windows end, such as [100,300]")
    return windows
