"""Barlow Twins: make the cross-correlation of two views' projections the identity.

Zbontar et al., Barlow Twins (2021), eq. 1 and 2, https://arxiv.org/abs/2103.03230. The correlation is that of the batch of all
ranks: sums over ranks, with gradient, divided by the number of clips on all ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hear_ssl.distributed.gather import sum_over_ranks, world
from hear_ssl.model.options import option
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import projection_head, two_views
from hear_ssl.objectives.options import width_option

EPSILON = 1e-5  # as in BatchNorm, which the paper's code uses to normalise


def standardised(z: Tensor) -> Tensor:
    """Return z (batch, dim), normalised to mean 0 and variance 1 per dimension over the batch of all ranks."""
    count = z.shape[0] * world()[1]
    centred = z - sum_over_ranks(z.sum(0)) / count
    return centred * torch.rsqrt(sum_over_ranks(centred.square().sum(0)) / count + EPSILON)


def barlow_twins(z_a: Tensor, z_b: Tensor, off_diagonal: float) -> Tensor:
    """Return sum_i (1 - c_ii)^2 + off_diagonal * sum_{i != j} c_ij^2 of projections (batch, dim)."""
    with torch.autocast(z_a.device.type, enabled=False):
        z_a, z_b = standardised(z_a.float()), standardised(z_b.float())
        correlation = sum_over_ranks(z_a.T @ z_b) / (z_a.shape[0] * world()[1])  # (dim, dim)
        diagonal = correlation.diagonal()
        redundancy = correlation.square().sum() - diagonal.square().sum()
        return (1.0 - diagonal).square().sum() + off_diagonal * redundancy


class BarlowTwins(Objective):
    """A projection head and the Barlow Twins loss."""

    @dataclass(frozen=True)
    class Options:
        """The weight of the paper, and a head for small batches of audio (Anton et al., 2022)."""

        off_diagonal: float = option(0.005, "weight of the redundancy term (lambda)", "", 0.0)
        projection_dim: int = width_option(1024, "width of the projection")
        hidden_dim: int = width_option(4096, "width of the projection head's hidden layer")

    def __init__(
        self,
        dim: int,
        off_diagonal: float = Options.off_diagonal,
        projection_dim: int = Options.projection_dim,
        hidden_dim: int = Options.hidden_dim,
    ) -> None:
        super().__init__()
        self.off_diagonal = off_diagonal
        self.head = projection_head(dim, hidden_dim, projection_dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss of the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.head(two_views(encoded.clip)).chunk(2)
        return barlow_twins(z_a, z_b, self.off_diagonal)
