"""MoCo v3: queries of the trained encoder against keys of its moving average.

Chen, Xie and He, An Empirical Study of Training Self-Supervised Vision Transformers (2021), algorithm 1,
https://arxiv.org/abs/2104.02057. Keys are those of all ranks, without gradient and without a queue; the loss has the factor 2 tau.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.distributed.gather import gather_constant, world
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.contrast import contrast
from hear_ssl.objectives.ema import frozen_copy, update_ema
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import deep_head, two_views
from hear_ssl.objectives.options import chunk_option, temperature_option, width_option


def info_nce(queries: Tensor, keys: Tensor, temperature: float, chunk: int = 0) -> Tensor:
    """Return 2 tau times the mean cross entropy of queries (batch, dim) against the keys (batch, dim) of all ranks."""
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = F.normalize(queries.float(), dim=-1), F.normalize(keys.float().detach(), dim=-1)
        positives = world()[0] * queries.shape[0] + torch.arange(queries.shape[0], device=queries.device)
        return 2.0 * temperature * contrast(queries / temperature, gather_constant(keys), positives, None, chunk)


class MoCoV3(Objective):
    """Projector, predictor and the projector's moving average; symmetric over the two views."""

    @dataclass(frozen=True)
    class Options:
        """Defaults of MoCo v3."""

        temperature: float = temperature_option(1.0)
        projection_dim: int = width_option(256, "width of the projection")
        hidden_dim: int = width_option(4096, "width of the hidden layers of projector and predictor")
        chunk: int = chunk_option()

    needs = frozenset({"teacher"})

    def __init__(
        self,
        dim: int,
        temperature: float = Options.temperature,
        projection_dim: int = Options.projection_dim,
        hidden_dim: int = Options.hidden_dim,
        chunk: int = Options.chunk,
    ) -> None:
        super().__init__()
        self.temperature, self.chunk = temperature, chunk
        self.projector = deep_head([dim, hidden_dim, projection_dim], last_norm=True)
        self.predictor = deep_head(
            [projection_dim, hidden_dim, projection_dim], last_norm=False
        )  # the paper has a last BatchNorm for the ViT only
        self.teacher_projector = frozen_copy(self.projector)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return ctr(q1, k2) + ctr(q2, k1)."""
        q_a, q_b = self.predictor(self.projector(two_views(encoded.clip))).chunk(2)
        with torch.no_grad():
            k_a, k_b = self.teacher_projector(two_views(encoded.teacher_clip)).chunk(2)
        return info_nce(q_a, k_b, self.temperature, self.chunk) + info_nce(q_b, k_a, self.temperature, self.chunk)

    def update_teacher(self, momentum: float) -> None:
        """Move the projector's average."""
        update_ema(self.teacher_projector, self.projector, momentum)
