"""AudioNTT-style CNN: two convolution blocks, a per-token MLP and, optionally, blocks that widen the receptive field over time.

It follows the description in Niizumi et al., BYOL for Audio: Exploring Pre-trained General-purpose Audio Representations
(2023), section IV: local features keep frequency and channels, the MLP mixes them, and readouts can use both as layers.
It is our own implementation from the text and leaves out the third convolution block, whose pooling would make tokens of 80 ms. The
blocks over time are ours: dilated depthwise convolutions (van den Oord et al., WaveNet, 2016) in the residual form of ConvNeXt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..options import option
from .base import Encoder

CONTEXT_KERNEL = 5


class ConvolutionBlock(nn.Sequential):
    """3 x 3 convolution, BatchNorm, 2 x 2 max pooling and ReLU; ReLU after pooling gives the same result at a quarter of the cost.

    In evaluation mode BatchNorm is a scale and an offset per channel, which are merged into the filters to save a pass over the
    maps, and pooling stores no indices for a gradient.

    slices: whether pooling is computed by slicing, which is faster in torch on a CPU, or by torch's layer, which is faster in ONNX
    runtimes.
    """

    slices = True

    def __init__(self, in_channels: int, out_channels: int) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(out_channels), nn.MaxPool2d(2), nn.ReLU(inplace=True))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (batch, out_channels, bands / 2, frames / 2) of maps (batch, in_channels, bands, frames)."""
        convolution, norm, pool, activation = self
        if self.training:
            pooled = pool(norm(convolution(maps)))
        else:
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            filters = convolution.weight * scale.reshape(-1, 1, 1, 1)
            normed = F.conv2d(maps, filters, norm.bias - norm.running_mean * scale, padding=1)
            pooled = highest_of_four(normed) if self.slices else pool(normed)
        activated: Tensor = activation(pooled)
        return activated


def highest_of_four(maps: Tensor) -> Tensor:
    """Return 2 x 2 max pooling (batch, channels, bands / 2, frames / 2) of maps; on a CPU twice as fast as a layer that stores indices."""
    bands, frames = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    of_two = torch.maximum(maps[:, :, 0:bands:2], maps[:, :, 1:bands:2])
    return torch.maximum(of_two[..., 0:frames:2], of_two[..., 1:frames:2])


class ContextBlock(nn.Module):
    """Depthwise convolution over time, five tokens `dilation` apart, and an MLP, added to the tokens (batch, tokens, dim)."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        reach = CONTEXT_KERNEL // 2 * dilation
        self.over_time = nn.Conv1d(dim, dim, CONTEXT_KERNEL, padding=reach, dilation=dilation, groups=dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (batch, tokens, dim)."""
        changed: Tensor = tokens + self.mlp(self.over_time(tokens.transpose(1, 2)).transpose(1, 2))
        return changed


class AudioNTT(Encoder):
    """Tokens of four frames; each depends on three more frames on either side, or on 8 * (2^context - 1) + 3 with context blocks.

    With band_pool the input is averaged over that many neighbouring bands: the network costs less by this factor, and harmonics blur.
    """

    @dataclass(frozen=True)
    class Options:
        """Sizes of the network."""

        channels: int = option(64, "channels of the convolutions", "channels", 1, 4096)
        dim: int = option(1024, "width of the hidden and output tokens", "dimensions", 1, 16384)
        context: int = option(
            0, "blocks over time on top; n of them extend the receptive field by 80 ms * (2^n - 1) to either side", "blocks", 0, 8
        )
        band_pool: int = option(1, "neighbouring bands averaged before the first convolution", "bands", 1, 1024)
        dropout: float = option(0.3, "dropout before the output layer in training", "probability", 0.0, 0.95)

    time_stride = 4
    batch_frames = 1600

    def __init__(
        self,
        n_mels: int,
        channels: int = Options.channels,
        dim: int = Options.dim,
        context: int = Options.context,
        band_pool: int = Options.band_pool,
        dropout: float = Options.dropout,
    ) -> None:
        """Build the network. Raises ValueError unless n_mels is a multiple of 4, or of 4 * band_pool."""
        super().__init__()
        if n_mels % (4 * band_pool):
            averages = f"averages {band_pool} bands and " if band_pool > 1 else ""
            halves = f"the audio_ntt encoder {averages}halves frequency twice"
            raise ValueError(f"frontend.n_mels is {n_mels}; {halves}: give a multiple of {4 * band_pool}")
        self.band_pool = band_pool
        local_dim = channels * (n_mels // band_pool // 4)
        self.layer_dims = (local_dim, dim, dim) + ((dim,) if context else ())
        self.halo_frames = self.time_stride * (1 + CONTEXT_KERNEL // 2 * (2**context - 1))
        self.convolutions = nn.Sequential(ConvolutionBlock(1, channels), ConvolutionBlock(channels, channels))
        self.hidden = nn.Sequential(nn.Linear(local_dim, dim), nn.ReLU(inplace=True))
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU(inplace=True))
        self.context = nn.Sequential(*[ContextBlock(dim, 2**place) for place in range(context)])

    def forward(self, features: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """Return local, hidden and output tokens of features (batch, n_mels, frames), and those of the context blocks if there are any."""
        if self.band_pool > 1:
            batch, n_mels, frames = features.shape
            features = features.reshape(batch, n_mels // self.band_pool, self.band_pool, frames).mean(2)
        maps = self.convolutions(features.unsqueeze(1))  # (batch, channels, n_mels / band_pool / 4, tokens)
        local = maps.permute(0, 3, 1, 2).flatten(2)  # (batch, tokens, channels * n_mels / band_pool / 4)
        hidden = self.hidden(local)
        output = self.output(hidden)
        return [local, hidden, output, self.context(output)] if len(self.context) else [local, hidden, output]
