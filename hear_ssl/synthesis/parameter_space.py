"""Define the parameter space of the instruments: named coordinates in [0, 1], the perturbed doppelgänger, the part held out for the tasks.

A sound is a vector in the unit cube; a layout gives every coordinate its name and its physical range. Doppelgängers follow
Cherep and Singh, "Contrastive Learning from Synthetic Audio Doppelgängers", ICLR 2025, https://arxiv.org/abs/2406.05923:
theta is uniform in [0, 1]^d and is perturbed by delta times standard normal noise. There are two differences: only the second
sound is perturbed, so that delta is the distance between the two, and values outside the cube are reflected, while the paper
clips them, so that both sounds have the same distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CELLS = 16
TRAINING_SHARE = 0.74  # of every cell; after a gap of 0.01 the rest of the cell is held out
HELD_OUT_FROM = 0.75


@dataclass(frozen=True)
class Coordinate:
    """One named parameter: 0 stands for `low`, 1 for `high`, on a linear or a logarithmic scale."""

    name: str
    low: float
    high: float
    log: bool = False

    def value(self, u: float) -> float:
        """Map u in [0, 1] to the physical value."""
        return float(self.low * (self.high / self.low) ** u if self.log else self.low + (self.high - self.low) * u)

    def inverse(self, value: float) -> float:
        """Map a physical value back to [0, 1]."""
        span = self.high / self.low if self.log else self.high - self.low
        return float(np.log(value / self.low) / np.log(span) if self.log else (value - self.low) / span)


Layout: TypeAlias = tuple[Coordinate, ...]


def decode(layout: Layout, parameters: Sequence[float] | Array) -> dict[str, float]:
    """Read a vector in [0, 1]^d as {name: physical value}. Raises ValueError on a wrong length or a value outside [0, 1]."""
    vector = np.asarray(parameters, dtype=np.float64)
    if vector.shape != (len(layout),):
        raise ValueError(
            f"parameters have shape {vector.shape}; this kind of sound has {len(layout)} parameters: {[c.name for c in layout]}"
        )
    if not (np.isfinite(vector).all() and vector.min() >= 0.0 and vector.max() <= 1.0):
        raise ValueError("parameters must lie in [0, 1]")
    return {coordinate.name: coordinate.value(u) for coordinate, u in zip(layout, vector, strict=True)}


def perturb(theta: Array, delta: float, rng: np.random.Generator) -> Array:
    """Move theta (d,) by delta times standard normal noise and reflect it into [0, 1]^d; returns (d,)."""
    moved = theta + delta * rng.standard_normal(theta.shape)
    return np.asarray(1.0 - np.abs(1.0 - np.mod(moved, 2.0)))


def training_region(theta: Array) -> Array:
    """Map [0, 1] into the first 74 % of each of 16 equal cells, the only values that training sounds have (d,)."""
    return _map_cells(theta, 0.0, TRAINING_SHARE)


def held_out_region(theta: Array) -> Array:
    """Map [0, 1] into the last quarter of each of 16 equal cells, which only the sounds of the tasks have (d,)."""
    return _map_cells(theta, HELD_OUT_FROM, 1.0 - 1e-6)


def _map_cells(theta: Array, low: float, high: float) -> Array:
    scaled = np.clip(theta, 0.0, 1.0) * CELLS
    cell = np.minimum(np.floor(scaled), CELLS - 1)
    return np.asarray((cell + low + (high - low) * (scaled - cell)) / CELLS)
