"""Several encoders side by side on the same features: what each of them learned, none at another's cost."""

from __future__ import annotations

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from .base import Encoder


class Towers(Encoder):
    """The last layer is that of all towers, concatenated; the layers below, in which they hardly differ, are the first tower's."""

    def __init__(self, towers: List[Encoder]) -> None:
        """Take encoders. Raises ValueError unless their tokens stand for the same time and clips may be cut in the same places."""
        super().__init__()
        first = towers[0]
        for place, tower in enumerate(towers[1:], start=2):
            if (tower.time_stride, tower.chunk_frames) != (first.time_stride, first.chunk_frames):
                raise ValueError(
                    f"tower {place} has tokens of {tower.time_stride} frames in windows of {tower.chunk_frames}, the first of "
                    f"{first.time_stride} in {first.chunk_frames}; `beside` must have encoders that agree in both"
                )
        self.towers = nn.ModuleList(towers)
        self.time_stride, self.chunk_frames = first.time_stride, first.chunk_frames
        self.halos = [tower.halo_frames for tower in towers]
        self.halo_frames = max(self.halos)
        self.batch_frames = min(tower.batch_frames for tower in towers)
        self.widths = tuple(tower.layer_dims[-1] for tower in towers)
        self.layer_dims = (*first.layer_dims[:-1], sum(self.widths))

    @property
    def tower_dims(self) -> Tuple[int, ...]:
        """Width of the last layer's tokens of each tower."""
        return self.widths

    def halo(self, towers: int) -> int:
        """Return halo_frames of the first so many towers, of all with 0."""
        return max(self.halos[: towers or None])

    def forward(self, features: Tensor, kept: Optional[Tensor] = None, count: Optional[int] = None) -> List[Tensor]:
        """Return each layer's tokens (batch, tokens, layer_dim) of features (batch, n_mels, frames), first to last.

        With a count the last layer is that of the first so many towers, and the others are not computed.
        """
        outputs: List[List[Tensor]] = [tower(features) for tower in list(self.towers)[:count]]
        return [*outputs[0][:-1], torch.cat([layers[-1] for layers in outputs], -1)]
