"""ConvNeXt-style CNN that keeps frequency resolved.

Liu et al., A ConvNet for the 2020s (2022), section 2: depthwise 7 x 7 convolution, LayerNorm over channels, an inverted
bottleneck with GELU, residual with a learned scale. Changed for audio: after the 4 x 4 stem there is no stride over time, and
frequency is halved once, so that a token of 40 ms keeps n_mels / 8 bands. Stochastic depth is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..options import option
from .base import Encoder

KERNEL = 7


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of maps (batch, channels, bands, tokens)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps of the same shape."""
        return self.rows(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def rows(self, rows: Tensor) -> Tensor:
        """Return normalised rows of the same shape (..., channels)."""
        normalised: Tensor = self.norm(rows)
        return normalised


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and inverted bottleneck, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.norm = ChannelNorm(channels)
        self.mlp = nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1))
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (batch, channels, bands, tokens)."""
        widen, activation, narrow = self.mlp
        rows = self.norm.rows(self.depthwise(maps).permute(0, 2, 3, 1))  # (batch, bands, tokens, channels)
        changed = self.scale.flatten() * pointwise(narrow, activation(pointwise(widen, rows)))
        return maps + changed.permute(0, 3, 1, 2)


def pointwise(layer: nn.Module, rows: Tensor) -> Tensor:
    """Return a 1 x 1 convolution of rows (..., channels) as a matrix product, which for a few clips is twice as fast as torch's own."""
    assert isinstance(layer, nn.Conv2d)
    return F.linear(rows, layer.weight.flatten(1), layer.bias)


class ConvNeXt(Encoder):
    """Tokens of four frames. With `depth` blocks the receptive field is 3 * depth tokens, or 12 * depth frames, on either side."""

    @dataclass(frozen=True)
    class Options:
        """Sizes of the network."""

        channels: int = option(64, "channels of the stem and of the first half of the blocks", "channels", 1, 4096)
        dim: int = option(1024, "width of the output tokens", "dimensions", 1, 16384)
        depth: int = option(6, "blocks", "blocks", 1, 64)
        dropout: float = option(0.3, "dropout before the output layer in training", "probability", 0.0, 0.95)

    time_stride = 4

    def __init__(
        self,
        n_mels: int,
        channels: int = Options.channels,
        dim: int = Options.dim,
        depth: int = Options.depth,
        dropout: float = Options.dropout,
    ) -> None:
        """Build the network. Raises ValueError unless n_mels is a multiple of 8."""
        super().__init__()
        if n_mels % 8:
            raise ValueError(f"frontend.n_mels is {n_mels}; the convnext encoder divides frequency by 8: give a multiple")
        first = depth // 2
        self.halo_frames = self.time_stride * (KERNEL // 2) * depth
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 4, stride=4), ChannelNorm(channels))
        self.low = nn.Sequential(*[ConvNeXtBlock(channels) for _ in range(first)])
        self.narrow = nn.Sequential(ChannelNorm(channels), nn.Conv2d(channels, 2 * channels, (2, 1), stride=(2, 1)))
        self.high = nn.Sequential(*[ConvNeXtBlock(2 * channels) for _ in range(depth - first)], ChannelNorm(2 * channels))
        local = channels * (n_mels // 4)
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(local, dim), nn.GELU())
        self.layer_dims = (local, local, dim)

    def forward(self, features: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """Return low, high and output tokens of features (batch, n_mels, frames)."""
        low = self.low(self.stem(features.unsqueeze(1)))  # (batch, channels, n_mels / 4, tokens)
        high = self.high(self.narrow(low))  # (batch, 2 * channels, n_mels / 8, tokens)
        local = [maps.permute(0, 3, 1, 2).flatten(2) for maps in (low, high)]
        return [*local, self.output(local[1])]
