"""Vision transformer over time-frequency patches, of any length.

Dosovitskiy et al., An Image is Worth 16x16 Words (2021), with patches of 40 ms by a quarter of the mel bands as in Niizumi et
al., Masked Modeling Duo (2023): a token is the concatenation of the patches of one time step, so frequency stays
resolved. Positions over time are sinusoidal (Vaswani et al., 2017), which allows any length; those over frequency are learned. The
blocks are pre-norm. Class token and stochastic depth are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..options import option
from .base import Encoder

BANDS = 4
EXPLICIT_TOKENS = 128  # up to this many, plain softmax is faster on CPUs than the fused attention


class Attention(nn.Module):
    """Multi-head self-attention.

    explicit_tokens: up to this many tokens a CPU computes attention by plain matrix products; the result differs by rounding.
    """

    explicit_tokens = EXPLICIT_TOKENS

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens (batch, tokens, dim)."""
        batch, count, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)  # (batch, heads, tokens, head_dim)
        if count <= self.explicit_tokens and tokens.device.type == "cpu":
            shares = (queries @ keys.transpose(-2, -1) / math.sqrt(dim // self.heads)).softmax(-1)
            attended = shares @ values
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(batch, count, dim))
        return mixed


class TransformerBlock(nn.Module):
    """Attention and MLP, each preceded by a LayerNorm and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (batch, tokens, dim)."""
        tokens = tokens + self.attention(self.norm_attention(tokens))
        changed: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return changed


class ViT(Encoder):
    """Tokens of four frames, four patches of `dim` each; long clips are cut at multiples of `window_frames`."""

    @dataclass(frozen=True)
    class Options:
        """Sizes of the network; by default those of ViT-Tiny."""

        dim: int = option(192, "width of each of a token's four patches, a multiple of twice the heads", "dimensions", 1, 16384)
        depth: int = option(12, "blocks", "blocks", 1, 64)
        heads: int = option(3, "attention heads", "heads", 1, 64)
        window_frames: int = option(1000, "long clips are cut at multiples of this, a multiple of 4", "frames", 64, 100000)

    time_stride = 4
    halo_frames = 0
    can_drop = True

    def __init__(
        self,
        n_mels: int,
        dim: int = Options.dim,
        depth: int = Options.depth,
        heads: int = Options.heads,
        window_frames: int = Options.window_frames,
    ) -> None:
        """Build the network. Raises ValueError when n_mels, dim or window_frames is not a multiple of what it needs."""
        super().__init__()
        if n_mels % BANDS:
            raise ValueError(f"frontend.n_mels is {n_mels}; the vit encoder cuts them into {BANDS} bands: give a multiple")
        if dim % (2 * heads):
            raise ValueError(f"encoder.vit.dim is {dim}; the vit encoder needs a multiple of twice its {heads} heads")
        if window_frames % self.time_stride:
            raise ValueError(f"encoder.vit.window_frames is {window_frames}; it must be a multiple of {self.time_stride}")
        self.chunk_frames, self.dim = window_frames, dim
        self.layer_dims = (BANDS * dim,) * (depth + 1)
        self.embed = nn.Linear(n_mels // BANDS * self.time_stride, dim)
        self.band = nn.Parameter(torch.randn(BANDS, dim) * 0.02)
        self.blocks = nn.ModuleList([TransformerBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """Return the tokens of every block and the normalised last, each (batch, tokens, 4 * dim).

        kept: (batch, k) sorted indices of the time steps to encode, by default all; attention is then over these alone.
        """
        batch, n_mels, frames = features.shape
        steps = frames // self.time_stride
        patches = features.reshape(batch, BANDS, n_mels // BANDS, steps, self.time_stride).permute(0, 3, 1, 2, 4).flatten(3)
        tokens = self.embed(patches) + self.band + time_positions(steps, self.dim, features.device).unsqueeze(1)
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None, None].expand(-1, -1, *tokens.shape[2:]))
            steps = kept.shape[1]
        tokens = tokens.flatten(1, 2)  # (batch, steps * bands, dim)
        layers = []
        for block in self.blocks:
            tokens = block(tokens)
            layers.append(tokens.reshape(batch, steps, BANDS * self.dim))
        return [*layers, self.norm(tokens).reshape(batch, steps, BANDS * self.dim)]


def time_positions(steps: int, dim: int, device: torch.device) -> Tensor:
    """Return sinusoidal positions (steps, dim), wavelengths from 2 pi to 20,000 pi steps (Vaswani et al., 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(steps, device=device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
