"""COLA: contrast two crops of a clip with a learned bilinear similarity.

Saeed, Grangier and Zeghidour, Contrastive Learning of General-Purpose Audio Representations (2021), section 2,
https://arxiv.org/abs/2010.10915. The paper's loss has one direction, from anchors to positives; anchors are not compared with anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.distributed.gather import gather_rows, world
from hear_ssl.model.options import option
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.contrast import contrast
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.options import chunk_option, width_option


def cola(anchors: Tensor, keys: Tensor, chunk: int = 0) -> Tensor:
    """Return the mean cross entropy of anchors (batch, dim) against the keys (batch, dim) of all ranks.

    The positive of an anchor is the key in the same row. The similarity is the dot product; a bilinear form is applied to one of
    the sides beforehand.
    """
    gathered = gather_rows(keys)  # (ranks * batch, dim)
    positives = world()[0] * anchors.shape[0] + torch.arange(anchors.shape[0], device=anchors.device)
    return contrast(anchors, gathered, positives, None, chunk)


class COLA(Objective):
    """COLA with its head: Linear, LayerNorm, tanh, then bilinear (or cosine) similarity."""

    @dataclass(frozen=True)
    class Options:
        """Defaults of COLA."""

        projection_dim: int = width_option(512, "width of the projection")
        similarity: str = option("bilinear", "similarity of projections", choices=("bilinear", "cosine"))
        temperature: float = option(0.2, "temperature of the cosine similarity; the bilinear one has none", "cosine", 1e-3, 10.0)
        symmetric: bool = option(False, "average over both directions; the paper contrasts anchors with positives only")
        chunk: int = chunk_option()

    def __init__(
        self,
        dim: int,
        projection_dim: int = Options.projection_dim,
        similarity: str = Options.similarity,
        temperature: float = Options.temperature,
        symmetric: bool = Options.symmetric,
        chunk: int = Options.chunk,
    ) -> None:
        super().__init__()
        self.similarity, self.temperature, self.symmetric, self.chunk = similarity, temperature, symmetric, chunk
        self.head = nn.Sequential(nn.Linear(dim, projection_dim), nn.LayerNorm(projection_dim), nn.Tanh())
        self.bilinear = nn.Parameter(torch.randn(projection_dim, projection_dim) * 0.05)
        self.bilinear.requires_grad_(similarity == "bilinear")

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss between the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.head(encoded.clip[:2].flatten(0, 1)).chunk(2)
        with torch.autocast(z_a.device.type, enabled=False):
            z_a, z_b = z_a.float(), z_b.float()
            if self.similarity == "cosine":
                z_a, z_b = F.normalize(z_a, dim=-1), F.normalize(z_b, dim=-1)
                forward, backward = z_a / self.temperature, z_b / self.temperature
            else:
                forward, backward = z_a @ self.bilinear, z_b @ self.bilinear.T
            loss = cola(forward, z_b, self.chunk)
            return (loss + cola(backward, z_a, self.chunk)) / 2.0 if self.symmetric else loss
