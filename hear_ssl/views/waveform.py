"""Augmentations of waveforms (batch, time) in the time domain: gain, polarity, noise, clipping and time shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.base import Augmentation
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes, within


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


class Clipping(Sometimes):
    """Hard clipping, as of an overdriven input: samples are limited to a threshold below the clip's peak."""

    @dataclass(frozen=True)
    class Options:
        """Options of the threshold."""

        db: tuple[float, ...] = option((0.0, 15.0), "smallest and largest distance of the threshold below the peak", "dB", 0.0, 60.0)
        chance: float = option(0.3, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, db: tuple[float, ...] = Options.db, chance: float = Options.chance) -> None:
        super().__init__(chance)
        self.db = db

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the distance of the threshold below the peak in dB."""
        return (within(self.db, random),)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return clipped waveforms."""
        (below_db,) = drawn
        threshold = x.abs().amax(-1, keepdim=True) * 10.0 ** (-below_db / 20.0)
        return x.clamp(-threshold, threshold)


class TimeShift(Augmentation):
    """A shift by whole samples, forwards or backwards, padded with silence."""

    @dataclass(frozen=True)
    class Options:
        """Options of the shift."""

        seconds: float = option(0.1, "largest shift, either way", "s", 0.0, 60.0)

    kind = "waveform"

    def __init__(self, sample_rate: int, seconds: float = Options.seconds) -> None:
        super().__init__()
        self.largest = round(seconds * sample_rate)

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape."""
        shift = self.random(seeds).integers(2 * self.largest + 1, 1) - self.largest  # (batch, 1) samples
        source = torch.arange(x.shape[-1], device=x.device) - shift
        inside = (source >= 0) & (source < x.shape[-1])
        return torch.where(inside, x.gather(1, source.clamp(0, x.shape[-1] - 1)), 0.0)

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return whether a clip can be shifted."""
        return bool(options.seconds > 0)
