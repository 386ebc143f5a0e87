"""BYOL: predict the projection of the other view by the moving-average network, without negatives.

Grill et al., Bootstrap Your Own Latent (2020), eq. 2, https://arxiv.org/abs/2006.07733, with the heads of Niizumi et
al., BYOL for Audio (2023), https://arxiv.org/abs/2204.07402.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.ema import frozen_copy, update_ema
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import projection_head, two_views
from hear_ssl.objectives.options import width_option


def regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 2 - 2 cosine of predictions and targets (batch, dim); targets get no gradient."""
    with torch.autocast(predictions.device.type, enabled=False):
        cosines = F.cosine_similarity(predictions.float(), targets.detach().float(), dim=-1)
        return (2.0 - 2.0 * cosines).mean()


class BYOL(Objective):
    """Projector, predictor and the projector's moving average; symmetric over the two views."""

    @dataclass(frozen=True)
    class Options:
        """Defaults of BYOL-A v2 (Niizumi et al., 2023)."""

        projection_dim: int = width_option(256, "width of the projection")
        hidden_dim: int = width_option(4096, "width of the hidden layers of projector and predictor")

    needs = frozenset({"teacher"})

    def __init__(self, dim: int, projection_dim: int = Options.projection_dim, hidden_dim: int = Options.hidden_dim) -> None:
        super().__init__()
        self.projector = projection_head(dim, hidden_dim, projection_dim)
        self.predictor = projection_head(projection_dim, hidden_dim, projection_dim)
        self.teacher_projector = frozen_copy(self.projector)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the sum over both directions, between 0 and 8."""
        p_a, p_b = self.predictor(self.projector(two_views(encoded.clip))).chunk(2)
        with torch.no_grad():
            t_a, t_b = self.teacher_projector(two_views(encoded.teacher_clip)).chunk(2)
        return regression(p_a, t_b) + regression(p_b, t_a)

    def update_teacher(self, momentum: float) -> None:
        """Move the projector's average."""
        update_ema(self.teacher_projector, self.projector, momentum)
