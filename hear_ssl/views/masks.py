"""Augmentations that mask ranges of time or bands: set them to the mean, 0, or do not encode them.

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

TOKEN = 4  # frames or bands that structured dropping masks together: a token of 40 ms


def mask(features: Tensor, random: SampleRandom, count: int, longest: int, dim: int) -> Tensor:
    """Return features with `count` ranges of up to `longest` bands (dim 1) or frames (dim 2) set to the mean, 0."""
    size = features.shape[dim]
    length = random.uniform(count) * min(longest, size)  # (batch, masks)
    start = random.uniform(count) * (size - length)
    place = torch.arange(size, device=features.device)
    hidden = ((place >= start.unsqueeze(-1)) & (place < (start + length).unsqueeze(-1))).any(1)  # (batch, size)
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


def drop(features: Tensor, random: SampleRandom, share: float, dim: int) -> Tensor:
    """Return features with a share of the groups of four bands (dim 1) or frames (dim 2) set to the mean, 0, the same number per sample."""
    groups = -(-features.shape[dim] // TOKEN)
    order = random.uniform(groups).argsort(1).argsort(1)  # (batch, groups): the rank of each group
    hidden = (order < round(share * groups)).repeat_interleave(TOKEN, 1)[:, : features.shape[dim]]
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


class TimeMasks(Augmentation):
    """Set ranges of time to the mean."""

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
    """Set ranges of bands to the mean."""

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
    """Set a share of the tokens' time ranges to the mean."""

    @dataclass(frozen=True)
    class Options:
        """AudioMosaic drops 0.6 of the first view."""

        share: float = option(0.6, "share of the tokens' time ranges to mask", "share", 0.0, 0.95)

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return drop(x, self.random(seeds), self.share, dim=2)


class DropFrequency(Augmentation):
    """Set a share of the bands to the mean, in groups of four."""

    @dataclass(frozen=True)
    class Options:
        """AudioMosaic drops 0.4 of the second view."""

        share: float = option(0.4, "share of the mel bands", "share", 0.0, 0.95)

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return drop(x, self.random(seeds), self.share, dim=1)


class Keep(Augmentation):
    """Encode only a share of the time steps; the encoder must be able to drop the others."""

    @dataclass(frozen=True)
    class Options:
        """Options of the choice."""

        share: float = option(0.3, "share of the time steps that is encoded", "share", 0.01, 1.0)

    kind = "mask"

    def __init__(self, share: float = Options.share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return the time steps to keep (batch, k) of the time steps (batch, steps), in order."""
        steps = x.shape[1]
        order = self.random(seeds).uniform(steps).argsort(1)
        return x.gather(1, order[:, : max(1, round(self.share * steps))].sort(1).values)

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return true, since views with different time steps have different tokens."""
        return bool(options.share < 1)
