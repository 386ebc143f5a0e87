"""An encoder in one file: residual convolutions over time, with all bands of a frame as channels.

Dilated convolutions as in van den Oord et al., WaveNet (2016), https://arxiv.org/abs/1609.03499, section 2.1, without gates. A wheel of
a model with this encoder contains this file, so it imports only torch and hear_ssl.model.

hear-ssl fit --config examples/own_parts.yaml data.shards=shards
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from hear_ssl.model import Encoder, option


class Block(nn.Module):
    """LayerNorm, a dilated convolution over tokens, GELU and a linear layer, added to the tokens (batch, tokens, width)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        changed: Tensor = self.mix(self.over_time(self.norm(tokens).transpose(1, 2)).transpose(1, 2))
        return tokens + changed


class TimeNet(Encoder):
    """Tokens of four frames; block n has dilation 2^n, so the receptive field doubles with each."""

    @dataclass(frozen=True)
    class Options:
        """Sizes of the network."""

        width: int = option(256, "width of the tokens", "dimensions", 8, 4096)
        blocks: int = option(4, "residual blocks", "blocks", 1, 8)

    time_stride = 4

    def __init__(self, n_mels: int, width: int = Options.width, blocks: int = Options.blocks) -> None:
        super().__init__()
        self.layer_dims = (width,) * (blocks + 1)
        self.halo_frames = self.time_stride * (2**blocks - 1)  # the sum of all dilations, in frames
        self.stem = nn.Conv1d(n_mels, width, self.time_stride, stride=self.time_stride)
        self.blocks = nn.ModuleList([Block(width, 2**place) for place in range(blocks)])

    def forward(self, features: Tensor, kept: Tensor | None = None) -> list[Tensor]:
        """Return the tokens of the stem and of every block, each (batch, tokens, width)."""
        layers = [self.stem(features).transpose(1, 2)]  # (batch, tokens, width)
        for block in self.blocks:
            layers.append(block(layers[-1]))
        return layers
