"""An objective in one file: NT-Xent with an angular margin, which requires positives to be closer than without it.

The margin of Deng et al., ArcFace (2019), https://arxiv.org/abs/1801.07698, eq. 3, in the contrastive loss of Chen et al., SimCLR
(2020), https://arxiv.org/abs/2002.05709, eq. 1, with keys of the other view only: the cosine of a positive pair, cos(a), becomes
cos(a + margin).

hear-ssl fit --config examples/own_parts.yaml data.shards=shards
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.distributed.gather import gather_rows, world
from hear_ssl.objectives import Encoded, Objective, option
from hear_ssl.objectives.heads import projection_head


def angular_contrast(queries: Tensor, keys: Tensor, margin: float, temperature: float) -> Tensor:
    """Return the mean cross entropy of queries (batch, dim) against the keys (batch, dim) of all ranks; margin in radians."""
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = F.normalize(queries.float(), dim=-1), F.normalize(keys.float(), dim=-1)
        cosines = queries @ gather_rows(keys).T  # (batch, ranks * batch)
        rows = torch.arange(len(queries), device=queries.device)
        positives = world()[0] * len(queries) + rows
        angle = torch.acos(cosines[rows, positives].clamp(-1.0 + 1e-6, 1.0 - 1e-6))
        logits = cosines.index_put((rows, positives), torch.cos((angle + margin).clamp_max(math.pi)))
        return F.cross_entropy(logits / temperature, positives)


class AngularMargin(Objective):
    """A projection head and the loss in both directions between the first two views."""

    @dataclass(frozen=True)
    class Options:
        """Options of the loss and its head."""

        margin_degrees: float = option(10.0, "angle added to the angle between positives", "degrees", 0.0, 90.0)
        temperature: float = option(0.2, "temperature of the softmax over similarities", "cosine", 1e-3, 10.0)
        projection_dim: int = option(128, "width of the projection", "dimensions", 2, 65536)

    def __init__(self, dim: int, margin_degrees: float = 10.0, temperature: float = 0.2, projection_dim: int = 128) -> None:
        super().__init__()
        self.margin, self.temperature = math.radians(margin_degrees), temperature
        self.head = projection_head(dim, dim, projection_dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss of the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.head(encoded.clip[:2].flatten(0, 1)).chunk(2)
        loss = angular_contrast(z_a, z_b, self.margin, self.temperature)
        return (loss + angular_contrast(z_b, z_a, self.margin, self.temperature)) / 2.0
