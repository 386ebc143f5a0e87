"""COLA: contrast two crops of a clip by a learned bilinear similarity.

Saeed, Grangier and Zeghidour, Contrastive Learning of General-Purpose Audio Representations (2021), section 2,
https://arxiv.org/abs/2010.10915. The paper's loss has one direction, anchor to positive, and no self-similarity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.distributed.gather import gather_rows, world
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.contrast import contrast
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.options import COLAConfig


def cola(anchors: Tensor, keys: Tensor, chunk: int = 0) -> Tensor:
    """Return the mean cross entropy of anchors (batch, dim) against the keys (batch, dim) of all ranks.

    The positive of an anchor is the key of the same row; similarity is the dot product, so a bilinear form goes into
    one side beforehand.
    """
    gathered = gather_rows(keys)  # (ranks * batch, dim)
    positives = world()[0] * anchors.shape[0] + torch.arange(anchors.shape[0], device=anchors.device)
    return contrast(anchors, gathered, positives, None, chunk)


class COLA(Objective):
    """COLA with its head: Linear, LayerNorm, tanh, then bilinear (or cosine) similarity."""

    def __init__(self, dim: int, config: COLAConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Sequential(nn.Linear(dim, config.projection_dim), nn.LayerNorm(config.projection_dim), nn.Tanh())
        self.bilinear = nn.Parameter(torch.randn(config.projection_dim, config.projection_dim) * 0.05)
        self.bilinear.requires_grad_(config.similarity == "bilinear")

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss between the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.head(encoded.clip[:2].flatten(0, 1)).chunk(2)
        with torch.autocast(z_a.device.type, enabled=False):
            z_a, z_b = z_a.float(), z_b.float()
            if self.config.similarity == "cosine":
                z_a, z_b = F.normalize(z_a, dim=-1), F.normalize(z_b, dim=-1)
                forward, backward = z_a / self.config.temperature, z_b / self.config.temperature
            else:
                forward, backward = z_a @ self.bilinear, z_b @ self.bilinear.T
            loss = cola(forward, z_b, self.config.chunk)
            return (loss + cola(backward, z_a, self.config.chunk)) / 2.0 if self.config.symmetric else loss
