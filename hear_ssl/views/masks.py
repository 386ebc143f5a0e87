"""Augmentations that leave out stretches of time or bands: set to the mean, 0, or not encoded at all.

Masks after Park et al., SpecAugment (2019); structured dropping after AudioMosaic (2026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.base import Augmentation

TOKEN = 4  # frames and bands that structured dropping hides together: a token of 40 ms


def mask(features: Tensor, random: SampleRandom, count: int, longest: int, dim: int) -> Tensor:
    """Set `count` stretches of up to `longest` bands (dim 1) or frames (dim 2) to the mean, 0."""
    size = features.shape[dim]
    length = random.uniform(count) * min(longest, size)  # (batch, masks)
    start = random.uniform(count) * (size - length)
    place = torch.arange(size, device=features.device)
    hidden = ((place >= start.unsqueeze(-1)) & (place < (start + length).unsqueeze(-1))).any(1)  # (batch, size)
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


def drop(features: Tensor, random: SampleRandom, share: float, dim: int) -> Tensor:
    """Set a share of the groups of four bands (dim 1) or frames (dim 2) to the mean, 0: exactly that many in every sample."""
    groups = -(-features.shape[dim] // TOKEN)
    order = random.uniform(groups).argsort(1).argsort(1)  # (batch, groups): the rank of each group
    hidden = (order < round(share * groups)).repeat_interleave(TOKEN, 1)[:, : features.shape[dim]]
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


class TimeMasks(Augmentation):
    """Stretches of time set to the mean."""

    @dataclass(frozen=True)
    class Options:
        """Options of the masks."""

        count: int = option(1, "masks", "masks", 1, 16)
        frames: int = option(20, "longest mask", "frames", 1, 100000)

    def __init__(self, count: int = Options.count, frames: int = Options.frames) -> None:
        super().__init__()
        self.count, self.frames = count, frames

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return mask(x, self.random(seeds), self.count, self.frames, dim=2)


class FrequencyMasks(Augmentation):
    """Stretches of bands set to the mean."""

    @dataclass(frozen=True)
    class Options:
        """Options of the masks."""

        count: int = option(1, "masks", "masks", 1, 16)
        bands: int = option(8, "widest mask", "mel bands", 1, 1024)

    def __init__(self, count: int = Options.count, bands: int = Options.bands) -> None:
        super().__init__()
        self.count, self.bands = count, bands

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return mask(x, self.random(seeds), self.count, self.bands, dim=1)


class DropTime(Augmentation):
    """A share of the token times set to the mean."""

    @dataclass(frozen=True)
    class Options:
        """AudioMosaic drops 0.6 of the first view's."""

        share: float = option(0.6, "share of the token times", "share", 0.0, 0.95)

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return drop(x, self.random(seeds), self.share, dim=2)


class DropFrequency(Augmentation):
    """A share of the bands set to the mean, in groups of four."""

    @dataclass(frozen=True)
    class Options:
        """AudioMosaic drops 0.4 of the second view's."""

        share: float = option(0.4, "share of the mel bands", "share", 0.0, 0.95)

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return drop(x, self.random(seeds), self.share, dim=1)


class Keep(Augmentation):
    """Only a share of the time steps is encoded; the encoder must be able to drop the others."""

    @dataclass(frozen=True)
    class Options:
        """Options of the choice."""

        share: float = option(0.3, "share of the time steps that is encoded", "share", 0.01, 1.0)

    kind = "mask"

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return the kept ones (batch, k) of the time steps (batch, steps), in order."""
        steps = x.shape[1]
        order = self.random(seeds).uniform(steps).argsort(1)
        return x.gather(1, order[:, : max(1, round(self.share * steps))].sort(1).values)

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return true: views that keep other steps have other tokens."""
        return bool(options.share < 1)
