"""Augmentations of waveforms (batch, time)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.views.base import Augmentation


class Gain(Augmentation):
    """A random gain, uniform in decibels."""

    @dataclass(frozen=True)
    class Options:
        """Options of the gain."""

        db: float = option(6.0, "largest gain, up or down", "dB", 0.0, 60.0)

    kind = "waveform"

    def __init__(self, db: float = Options.db) -> None:
        super().__init__()
        self.db = db

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape."""
        gain_db = self.random(seeds).uniform(1, low=-self.db, high=self.db)
        scaled: Tensor = x * 10.0 ** (gain_db / 20.0)
        return scaled


class Polarity(Augmentation):
    """A sign flip."""

    @dataclass(frozen=True)
    class Options:
        """Options of the flip."""

        chance: float = option(0.5, "chance of a sign flip", "probability", 0.0, 1.0)

    kind = "waveform"

    def __init__(self, chance: float = Options.chance) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape."""
        return x * torch.where(self.random(seeds).uniform(1) < self.chance, -1.0, 1.0)


class Noise(Augmentation):
    """White noise."""

    @dataclass(frozen=True)
    class Options:
        """Options of the noise."""

        std: float = option(0.001, "standard deviation of the noise", "full scale", 0.0, 1.0)

    kind = "waveform"
    offset = 2

    def __init__(self, std: float = Options.std) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape."""
        return x + self.std * self.random(seeds).normal(x.shape[-1])
