"""Augmentations of log-mel features (batch, n_mels, frames), and the pitch shift that an objective can require.

Random resize crop and random linear fader after Niizumi et al., BYOL for Audio (2023), section III.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.model.bands import hz_to_mel, mel_to_hz
from hear_ssl.model.options import FrontendConfig, option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.base import Augmentation


def fade(features: Tensor, random: SampleRandom, slope: float) -> Tensor:
    """Return features plus a straight line over time whose two ends are uniform in ±slope: a fade-in or fade-out."""
    ends = random.uniform(2, low=-slope, high=slope)  # (batch, 2)
    way = torch.linspace(0.0, 1.0, features.shape[2], device=features.device)
    return features + (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * way).unsqueeze(1)


def resize_crop(features: Tensor, random: SampleRandom, time: float, frequency: float) -> Tensor:
    """Return a window of 1 ± `time` of the frames and 1 ± `frequency` of the bands, resized to the original size.

    Outside of the features the value is the mean, 0. Interpolation is bilinear; a share of 0 leaves that axis unchanged, and the result
    is bit-identical when both are 0.
    """
    if not time and not frequency:
        return features
    axes = []
    for share, size in ((frequency, features.shape[1]), (time, features.shape[2])):
        scale = random.uniform(1, low=1.0 - share, high=1.0 + share)  # (batch, 1) window length as a share of the whole
        slack = 1.0 - scale  # where the window may start: inside the whole, or before it when it is longer
        start = torch.where(slack >= 0, random.uniform(1) * slack, slack / 2.0)
        centres = (torch.arange(size, device=features.device) + 0.5) / size
        axes.append((start + centres * scale) * 2.0 - 1.0)  # grid_sample's coordinates
    rows, columns = axes
    grid = torch.stack(
        [columns.unsqueeze(1).expand(-1, rows.shape[1], -1), rows.unsqueeze(2).expand(-1, -1, columns.shape[1])], -1
    )  # (batch, n_mels, frames, 2)
    return F.grid_sample(features.unsqueeze(1), grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(1)


def shift_pitch(features: Tensor, semitones: Tensor, config: FrontendConfig) -> Tensor:
    """Return features shifted by semitones (batch,): band m gets the value at its frequency / 2^(semitones / 12).

    Interpolation between bands is linear; outside of the bands the outermost band is repeated. Time is unchanged.
    """
    if config.layout == "log":
        steps_per_octave = (config.n_mels + 1) / math.log2(config.f_max / config.f_min)
        place = torch.arange(config.n_mels, device=features.device) - semitones.unsqueeze(1) / 12.0 * steps_per_octave
    else:
        edges = torch.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2, device=features.device)
        centres = mel_to_hz(edges[1:-1])
        sources = 2595.0 * torch.log10(1.0 + centres * 2.0 ** (-semitones.unsqueeze(1) / 12.0) / 700.0)  # (batch, n_mels) mel
        place = (sources - edges[1]) / (edges[1] - edges[0])
    place = place.clamp(0.0, config.n_mels - 1.0)
    below = place.floor().long().clamp(max=config.n_mels - 2)
    share = (place - below).unsqueeze(2)  # (batch, n_mels, 1)
    index = below.unsqueeze(2).expand(-1, -1, features.shape[2])
    return torch.lerp(features.gather(1, index), features.gather(1, index + 1), share.expand_as(index))


class ResizeCrop(Augmentation):
    """A random resize crop: a window of another length and height, resized to the original size."""

    @dataclass(frozen=True)
    class Options:
        """BYOL-A changes both scales by up to 0.4."""

        time: float = option(0.4, "largest change of the time scale", "share", 0.0, 0.9)
        frequency: float = option(0.4, "largest change of the frequency scale", "share", 0.0, 0.9)

    def __init__(self, time: float = Options.time, frequency: float = Options.frequency) -> None:
        super().__init__()
        self.time, self.frequency = time, frequency

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return resize_crop(x, self.random(seeds), self.time, self.frequency)

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return whether the time scale changes."""
        return bool(options.time > 0)


class Fader(Augmentation):
    """A random linear fader: a fade-in or fade-out."""

    @dataclass(frozen=True)
    class Options:
        """Options of the fader."""

        slope: float = option(2.0, "largest change of the level over the crop, at either end", "ln power", 0.0, 20.0)

    def __init__(self, frontend: FrontendConfig, slope: float = Options.slope) -> None:
        super().__init__()
        self.slope = slope / frontend.std

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape."""
        return fade(x, self.random(seeds), self.slope)
