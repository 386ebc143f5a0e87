"""Timestamp embeddings: tokens of layers, unchanged or averaged over time windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor

from ..options import option
from .base import Chunk, Readout
from .layers import Layers, layers_option

WINDOW_DIMS = 256


class Tokens(Readout):
    """The token at each timestamp, of every chosen layer."""

    @dataclass(frozen=True)
    class Options:
        """Which layers."""

        layers: str = layers_option()

    kinds = ("timestamp",)

    def __init__(self, layer_dims: Sequence[int], layers: str = Options.layers, layer_names: Sequence[str] = ()) -> None:
        """Raises ValueError when the encoder does not have the layers."""
        super().__init__()
        self.layers = Layers(layers, layer_dims, layer_names)
        self.width = self.layers.width

    def add(self, state: Tensor, chunk: Chunk) -> None:
        """Write the tokens."""
        self.layers.write(chunk.layers, state[:, chunk.timestamps])


class Contexts(Readout):
    """Means of the tokens over windows centred on each timestamp, restricted to the clip at its ends."""

    @dataclass(frozen=True)
    class Options:
        """Which layers, and the windows."""

        layers: str = layers_option()
        ms: Tuple[float, ...] = option((200.0,), "lengths of the windows, one mean each", "ms", 1.0, 60000.0)

    kinds = ("timestamp",)

    def __init__(
        self,
        layer_dims: Sequence[int],
        hop_samples: int,
        sample_rate: int,
        layers: str = Options.layers,
        ms: Sequence[float] = Options.ms,
        layer_names: Sequence[str] = (),
    ) -> None:
        """Raises ValueError when the encoder does not have the layers, or there is no window."""
        super().__init__()
        if not ms:
            raise ValueError("ms is empty; give the lengths of the windows, such as [200]")
        self.layers = Layers(layers, layer_dims, layer_names)
        self.reaches = [int(length * sample_rate / (2000.0 * hop_samples)) for length in ms]  # timestamps to either side
        self.width = len(self.reaches) * self.layers.width

    def add(self, state: Tensor, chunk: Chunk) -> None:
        """Write the tokens into the space of the first mean, from which `result` computes the means."""
        self.layers.write(chunk.layers, state[:, chunk.timestamps, : self.layers.width])

    def result(self, state: Tensor) -> Tensor:
        """Return the means (batch, timestamps, width), window by window."""
        width = self.layers.width
        for start in range(0, width, WINDOW_DIMS):
            stop = min(start + WINDOW_DIMS, width)
            block = state[:, :, start:stop].transpose(1, 2)
            for place, reach in reversed(list(enumerate(self.reaches))):  # the first overwrites the tokens
                mean = F.avg_pool1d(block, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
                state[:, :, place * width + start : place * width + stop] = mean.transpose(1, 2)
        return state
