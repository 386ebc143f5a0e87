"""Frame contrast: tokens of two views at the same time are positives; tokens at other times and of other clips are negatives.

The frame term of Kuroyanagi and Komatsu, multi-objective contrastive learning of audio (2025),
https://arxiv.org/abs/2505.18984, in the setting of ATST-frame (Li, Shao and Li, 2024): both views come from one crop, so token t
of one view corresponds to token t of the other. Similarity is the cosine; the loss is the mean over both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.distributed.gather import gather_rows, world
from hear_ssl.model.options import option
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.contrast import contrast
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import projection_head
from hear_ssl.objectives.options import chunk_option, temperature_option, width_option


def frame_contrast(z_a: Tensor, z_b: Tensor, temperature: float, guard: int = 0, chunk: int = 0) -> Tensor:
    """Return the mean loss over both directions of projected tokens (batch, tokens, dim).

    guard: tokens of the same clip at most this many tokens away are not used as negatives.
    """
    with torch.autocast(z_a.device.type, enabled=False):
        batch, tokens, _ = z_a.shape
        z_a, z_b = (F.normalize(z.float(), dim=-1).flatten(0, 1) for z in (z_a, z_b))  # (batch * tokens, dim)
        own = world()[0] * batch * tokens + torch.arange(batch * tokens, device=z_a.device)
        columns = torch.arange(world()[1] * batch * tokens, device=z_a.device)

        def too_near(rows: Tensor) -> Tensor:
            place = own[rows].unsqueeze(1)
            same_clip = place // tokens == columns // tokens
            distance = (place - columns).abs()
            return same_clip & (distance > 0) & (distance <= guard)

        excluded = too_near if guard else None
        forward = contrast(z_a / temperature, gather_rows(z_b), own, excluded, chunk)
        return (forward + contrast(z_b / temperature, gather_rows(z_a), own, excluded, chunk)) / 2.0


class FrameContrast(Objective):
    """A projection head on every token and frame contrast between the first two views."""

    @dataclass(frozen=True)
    class Options:
        """Defaults for tokens of 40 ms."""

        temperature: float = temperature_option(0.1)
        projection_dim: int = width_option(128, "width of the projection")
        hidden_dim: int = width_option(512, "width of the projection head's hidden layer")
        stride: int = option(1, "step between the tokens that are contrasted", "tokens", 1, 1024)
        guard_ms: float = option(0.0, "tokens of the same clip nearer than this are not used as negatives", "ms", 0.0, 60000.0)
        chunk: int = chunk_option()

    needs = frozenset({"aligned"})

    def __init__(
        self,
        dim: int,
        token_hop_ms: float,
        temperature: float = Options.temperature,
        projection_dim: int = Options.projection_dim,
        hidden_dim: int = Options.hidden_dim,
        stride: int = Options.stride,
        guard_ms: float = Options.guard_ms,
        chunk: int = Options.chunk,
    ) -> None:
        super().__init__()
        self.temperature, self.stride, self.chunk = temperature, stride, chunk
        self.guard = int(guard_ms / (token_hop_ms * stride))
        self.head = projection_head(dim, hidden_dim, projection_dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss of the first two views' tokens (2, batch, tokens, dim)."""
        assert encoded.tokens is not None
        tokens = encoded.tokens[:2, :, :: self.stride]
        z = self.head(tokens.flatten(0, 2)).reshape(*tokens.shape[:3], -1)
        return frame_contrast(z[0], z[1], self.temperature, self.guard, self.chunk)
