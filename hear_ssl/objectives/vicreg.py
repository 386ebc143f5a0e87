"""VICReg: invariance, variance and covariance of two views' projections.

Bardes, Ponce and LeCun, VICReg (2022), eq. 1 to 6, https://arxiv.org/abs/2105.04906. The variance term is the mean over both
views, as in the authors' code (factor 1/2; one popular port omits it). Statistics are those of all ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.distributed.gather import sum_over_ranks, world
from hear_ssl.model.options import option
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import deep_head, two_views
from hear_ssl.objectives.options import width_option

EPSILON = 1e-4


def variance_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return two terms of z (batch, dim): the mean hinge at deviation 1, and the sum of squared covariances divided by dim."""
    count = z.shape[0] * world()[1]
    centred = z - sum_over_ranks(z.sum(0)) / count
    covariance = sum_over_ranks(centred.T @ centred) / (count - 1)  # (dim, dim)
    deviation = torch.sqrt(covariance.diagonal() + EPSILON)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return F.relu(1.0 - deviation).mean(), off_diagonal / z.shape[1]


def vicreg(z_a: Tensor, z_b: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """Return the weighted sum of the three terms of projections (batch, dim)."""
    with torch.autocast(z_a.device.type, enabled=False):
        z_a, z_b = z_a.float(), z_b.float()
        (hinge_a, covariance_a), (hinge_b, covariance_b) = variance_and_covariance(z_a), variance_and_covariance(z_b)
        distance = (z_a - z_b).square().mean()
        return invariance * distance + variance * (hinge_a + hinge_b) / 2.0 + covariance * (covariance_a + covariance_b)


class VICReg(Objective):
    """A three-layer expander and the VICReg loss."""

    @dataclass(frozen=True)
    class Options:
        """The weights of the paper, and a narrower expander."""

        invariance: float = option(25.0, "weight of the invariance term", "", 0.0)
        variance: float = option(25.0, "weight of the variance term, the mean over both views", "", 0.0)
        covariance: float = option(1.0, "weight of the covariance term", "", 0.0)
        projection_dim: int = width_option(2048, "width of the three layers of the expander")

    def __init__(
        self,
        dim: int,
        invariance: float = Options.invariance,
        variance: float = Options.variance,
        covariance: float = Options.covariance,
        projection_dim: int = Options.projection_dim,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.expander = deep_head([dim, *[projection_dim] * 3], last_norm=False)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss of the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.expander(two_views(encoded.clip)).chunk(2)
        return vicreg(z_a, z_b, self.invariance, self.variance, self.covariance)
