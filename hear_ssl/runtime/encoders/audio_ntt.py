"""AudioNTT-style CNN: two convolution blocks and a per-token MLP.

Follows the description in Niizumi et al., BYOL for Audio: Exploring Pre-trained General-purpose Audio Representations
(2023), section IV: local features keep frequency and channels, the MLP mixes them, both are offered as layers.
Own implementation from the text. Leaves out the third convolution block, whose pooling would make tokens of 80 ms.
"""

from __future__ import annotations

from typing import List

from torch import Tensor, nn

from .base import Encoder


def convolution_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return 3 x 3 convolution, BatchNorm, ReLU and 2 x 2 max pooling."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class AudioNTT(Encoder):
    """Tokens of four frames; each depends on three more frames to either side (receptive field 10 frames)."""

    time_stride = 4
    halo_frames = 4

    def __init__(self, n_mels: int, channels: int, dim: int, dropout: float) -> None:
        """Build the network. Raises ValueError unless n_mels is a multiple of 4."""
        super().__init__()
        if n_mels % 4:
            raise ValueError(f"frontend.n_mels is {n_mels}; the audio_ntt encoder halves frequency twice: give a multiple of 4")
        local_dim = channels * (n_mels // 4)
        self.layer_dims = (local_dim, dim, dim)
        self.convolutions = nn.Sequential(convolution_block(1, channels), convolution_block(channels, channels))
        self.hidden = nn.Sequential(nn.Linear(local_dim, dim), nn.ReLU(inplace=True))
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU(inplace=True))

    def forward(self, features: Tensor) -> List[Tensor]:
        """Return local, hidden and output tokens of features (batch, n_mels, frames)."""
        maps = self.convolutions(features.unsqueeze(1))  # (batch, channels, n_mels / 4, tokens)
        local = maps.permute(0, 3, 1, 2).flatten(2)  # (batch, tokens, channels * n_mels / 4)
        hidden = self.hidden(local)
        return [local, hidden, self.output(hidden)]
