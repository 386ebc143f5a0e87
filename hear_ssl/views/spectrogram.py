"""Batched operations on log-mel features (batch, n_mels, frames), each sample with its own random numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.model.bands import hz_to_mel, mel_to_hz
from hear_ssl.model.options import FrontendConfig
from hear_ssl.sample_random import SampleRandom

TOKEN = 4  # frames and bands that structured dropping hides together: a token of 40 ms


def mask(features: Tensor, random: SampleRandom, count: int, longest: int, dim: int) -> Tensor:
    """Set `count` stretches of up to `longest` bands (dim 1) or frames (dim 2) to the mean, 0."""
    size = features.shape[dim]
    if not count or not longest:
        return features
    length = random.uniform(count) * min(longest, size)  # (batch, masks)
    start = random.uniform(count) * (size - length)
    place = torch.arange(size, device=features.device)
    hidden = ((place >= start.unsqueeze(-1)) & (place < (start + length).unsqueeze(-1))).any(1)  # (batch, size)
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


def drop(features: Tensor, random: SampleRandom, share: float, dim: int) -> Tensor:
    """Set a share of the groups of four bands (dim 1) or frames (dim 2) to the mean, 0: exactly that many in every sample."""
    groups = -(-features.shape[dim] // TOKEN)
    count = round(share * groups)
    if not count:
        return features
    order = random.uniform(groups).argsort(1).argsort(1)  # (batch, groups): the rank of each group
    hidden = (order < count).repeat_interleave(TOKEN, 1)[:, : features.shape[dim]]
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


def fade(features: Tensor, random: SampleRandom, slope: float) -> Tensor:
    """Add a straight line over time whose two ends are uniform within ±slope: a sound that comes or goes."""
    if not slope:
        return features
    ends = random.uniform(2, low=-slope, high=slope)  # (batch, 2)
    way = torch.linspace(0.0, 1.0, features.shape[2], device=features.device)
    return features + (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * way).unsqueeze(1)


def resize_crop(features: Tensor, random: SampleRandom, time: float, frequency: float) -> Tensor:
    """Cut a window whose length is 1 ± `time` of the frames and 1 ± `frequency` of the bands, and resize it to the whole.

    Outside the features is the mean, 0. Bilinear; a share of 0 leaves that axis as it is, bit for bit when both are 0.
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
    """Move every sample by its semitones (batch,): band m then shows what lay at its frequency / 2^(semitones / 12).

    Linear between bands; beyond the outer bands the outermost is repeated. Time is untouched.
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
