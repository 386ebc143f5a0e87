"""Scene embeddings: tokens of layers, pooled over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from torch import Tensor

from ..options import option
from ..pooling import TimePool, parse_pooling
from .base import Chunk, Readout
from .layers import Layers, layers_option


class Pooled(Readout):
    """Mean, max and standard deviation over time of the tokens; each comma-separated term of `how` pools every layer."""

    @dataclass(frozen=True)
    class Options:
        """Which layers, and how they are pooled."""

        layers: str = layers_option()
        how: str = option("mean+max", "over time: mean, max and std; + sums them, a comma concatenates")

    kinds = ("scene",)

    def __init__(
        self, layer_dims: Sequence[int], layers: str = Options.layers, how: str = Options.how, layer_names: Sequence[str] = ()
    ) -> None:
        """Raises ValueError when the encoder does not have the layers, or `how` has another term."""
        super().__init__()
        self.layers, self.how = Layers(layers, layer_dims, layer_names), how
        self.width = len(parse_pooling(how)) * self.layers.width

    def start(self, out: Tensor) -> TimePool:
        """Return an empty pool."""
        return TimePool(self.how)

    def add(self, state: TimePool, chunk: Chunk) -> None:
        """Add the tokens of the chosen layers."""
        state.add(self.layers.of(chunk.layers))

    def result(self, state: TimePool) -> Tensor:
        """Return the pooled tokens (batch, width)."""
        return state.result()
