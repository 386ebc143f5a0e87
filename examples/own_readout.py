"""A readout in one file: mean and standard deviation over time of the differences between consecutive tokens.

Deltas as in Furui, Speaker-independent isolated word recognition using dynamic features (1986), https://doi.org/10.1109/TASSP.1986.1164788,
of two neighbours. A wheel of a model with this readout contains this file, so it imports only torch and hear_ssl.model.

hear-ssl package --checkpoint RUN --set 'scene=[pooled,./examples/own_readout.py:Deltas]' ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_ssl.model import Chunk, Readout, option


class Deltas(Readout):
    """Statistics of the absolute differences between consecutive tokens of the last layer; zeros for a clip of one token."""

    @dataclass(frozen=True)
    class Options:
        """Options of the differences."""

        power: float = option(1.0, "exponent of the absolute differences", "", 0.5, 4.0)

    kinds = ("scene",)

    def __init__(self, layer_dims: tuple[int, ...], power: float = Options.power) -> None:
        super().__init__()
        self.power, self.width = power, 2 * layer_dims[-1]

    def start(self, out: Tensor) -> dict[str, Any]:
        """Return sums of zero, without a previous token."""
        zeros = out.new_zeros((out.shape[0], self.width // 2), dtype=torch.float64)
        return {"count": 0, "sum": zeros, "squares": zeros.clone(), "before": None}

    def add(self, state: dict[str, Any], chunk: Chunk) -> None:
        """Add the differences within the chunk, and the one from the last token of the previous chunk."""
        tokens = chunk.layers[-1].double()  # (batch, tokens, dim)
        state["before"], before = tokens[:, -1:], state["before"]
        tokens = tokens if before is None else torch.cat([before, tokens], 1)
        changes = tokens.diff(dim=1).abs() ** self.power
        state["count"] += changes.shape[1]
        state["sum"] = state["sum"] + changes.sum(1)
        state["squares"] = state["squares"] + changes.square().sum(1)

    def result(self, state: dict[str, Any]) -> Tensor:
        """Return mean and standard deviation of the differences (batch, 2 * dim)."""
        count = max(1, state["count"])
        mean = state["sum"] / count
        deviation = (state["squares"] / count - mean.square()).clamp_min(0.0).sqrt()
        return torch.cat([mean, deviation], 1).float()
