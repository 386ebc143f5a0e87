"""An augmentation in one file: a random filter, like those of other microphones and rooms.

After the linear type of Nam, Kim and Park, FilterAugment (2022), https://arxiv.org/abs/2110.03282, section 2.2, with points evenly
spaced over the bands.

hear-ssl fit --config examples/own_parts.yaml data.shards=shards
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hear_ssl.model.options import FrontendConfig
from hear_ssl.views import Augmentation, option


class RandomFilter(Augmentation):
    """Random gains at some bands, linearly interpolated between them."""

    @dataclass(frozen=True)
    class Options:
        """Options of the filter."""

        db: float = option(6.0, "largest gain, up or down", "dB", 0.0, 60.0)
        points: int = option(4, "bands with random gains", "points", 2, 64)

    kind = "spectrogram"

    def __init__(self, frontend: FrontendConfig, db: float = Options.db, points: int = Options.points) -> None:
        super().__init__()
        self.points, self.n_mels = points, frontend.n_mels
        self.gain = db / 10.0 * math.log(10.0) / frontend.std  # decibels to normalised ln power

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features (batch, n_mels, frames) of the same shape."""
        gains = self.random(seeds).uniform(1, self.points, low=-self.gain, high=self.gain)  # (batch, 1, points)
        return x + F.interpolate(gains, self.n_mels, mode="linear", align_corners=True).transpose(1, 2)
