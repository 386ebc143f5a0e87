"""Bands of the frontend: triangular filters over the bins of a Fourier transform.

There are two layouts. Mel: corners equally spaced in mel, one window for all bands. Log: corners equally spaced in pitch, and for
each band the shortest window that resolves it, so that low bands resolve pitch and high bands resolve time. This is the trade-off of
the constant-Q transform (Brown, J. Acoust. Soc. Am. 89, 1991, https://doi.org/10.1121/1.400476), with a few FFTs.
"""

from __future__ import annotations

import math
from typing import List, Tuple

import torch
from torch import Tensor

from .options import FrontendConfig


def hz_to_mel(frequency: float) -> float:
    """Convert Hz to mel on the HTK scale (Young et al., The HTK Book, eq. 5.13)."""
    return 2595.0 * math.log10(1.0 + frequency / 700.0)


def mel_to_hz(mel: Tensor) -> Tensor:
    """Convert mel on the HTK scale to Hz."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def corners(config: FrontendConfig) -> Tensor:
    """Return the corners of the triangles (n_mels + 2,) in Hz; band m rises from corner m to m + 1 and falls to m + 2."""
    if config.layout == "log":
        return torch.logspace(math.log10(config.f_min), math.log10(config.f_max), config.n_mels + 2)
    return mel_to_hz(torch.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2))


def mel_filters(config: FrontendConfig) -> Tensor:
    """Return triangular filters (n_fft // 2 + 1, n_mels) with corners equally spaced in mel."""
    frequencies = torch.linspace(0, config.sample_rate // 2, config.n_fft // 2 + 1)
    edges = corners(config)
    slopes = edges.unsqueeze(0) - frequencies.unsqueeze(1)  # (bins, n_mels + 2)
    widths = edges[1:] - edges[:-1]
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    return torch.clamp(torch.minimum(rising, falling), min=0.0)


def log_filters(config: FrontendConfig) -> List[Tuple[int, int, Tensor]]:
    """Return (window length, first bin, filters (bins, bands)) from the lowest bands and longest window to the highest.

    The window of a band is the shortest of n_fft, n_fft / 2, ..., min_window samples whose main lobe at half amplitude, two bins of
    a Hann window, is no wider than the band. Triangles are at least one bin wide on each side, so that none is empty. Bins that no
    band of the group uses are left out.
    """
    edges = corners(config)
    lengths = [window_length(config, float(width)) for width in edges[2:] - edges[:-2]]
    groups = []
    for length in sorted(set(lengths), reverse=True):
        bands = [band for band, chosen in enumerate(lengths) if chosen == length]
        low, centre, high = edges[bands[0] : bands[-1] + 3].unfold(0, 3, 1).T  # each (bands,)
        bin_width = config.sample_rate / length
        away = (torch.arange(length // 2 + 1) * bin_width).unsqueeze(1) - centre  # (bins, bands) Hz
        reach = torch.where(away > 0, (high - centre).clamp_min(bin_width), (centre - low).clamp_min(bin_width))
        filters = (1.0 - away.abs() / reach).clamp_min(0.0)
        used = filters.sum(1).nonzero().flatten()
        first, last = int(used[0]), int(used[-1])
        groups.append((length, first, filters[first : last + 1]))
    return groups


def window_length(config: FrontendConfig, width: float) -> int:
    """Return the shortest window (samples) that resolves a band `width` Hz wide from corner to corner, or else the longest."""
    length = config.min_window
    while length < config.n_fft and 2.0 * config.sample_rate / length > width:
        length *= 2
    return min(length, config.n_fft)
