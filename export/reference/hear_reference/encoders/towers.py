"""Several encoders of one kind side by side on the same features: what each of them learned, none at another's cost."""

from __future__ import annotations

from typing import List, Optional

import torch
from torch import Tensor, nn

from .base import Encoder


class Towers(Encoder):
    """The last layer is that of all towers, concatenated; the layers below, in which they hardly differ, are the first tower's."""

    def __init__(self, towers: List[Encoder]) -> None:
        """Take encoders of one kind and size."""
        super().__init__()
        first = towers[0]
        self.towers = nn.ModuleList(towers)
        self.time_stride, self.halo_frames = first.time_stride, first.halo_frames
        self.chunk_frames, self.batch_frames = first.chunk_frames, first.batch_frames
        self.layer_dims = (*first.layer_dims[:-1], len(towers) * first.layer_dims[-1])

    def forward(self, features: Tensor, count: Optional[int] = None) -> List[Tensor]:
        """Return each layer's tokens (batch, tokens, layer_dim) of features (batch, n_mels, frames), first to last.

        With a count the last layer is that of the first so many towers, and the others are not computed.
        """
        outputs: List[List[Tensor]] = [tower(features) for tower in list(self.towers)[:count]]
        return [*outputs[0][:-1], torch.cat([layers[-1] for layers in outputs], -1)]
