"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations (2020), eq. 1,
https://arxiv.org/abs/2002.05709. Every view of every other clip of all ranks is a negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.distributed.gather import gather_rows, world
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.contrast import contrast
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.heads import projection_head
from hear_ssl.objectives.options import chunk_option, temperature_option, width_option


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float, chunk: int = 0) -> Tensor:
    """Return the mean loss over both views of this rank's rows; z_a, z_b (batch, dim) need not be normalised.

    Local rows are compared with the columns of all ranks, so that the mean over ranks is the loss of the whole batch.
    """
    with torch.autocast(z_a.device.type, enabled=False):
        z_a, z_b = F.normalize(z_a.float(), dim=-1), F.normalize(z_b.float(), dim=-1)
        batch = z_a.shape[0]
        keys = torch.cat([gather_rows(z_a), gather_rows(z_b)])  # (2 * ranks * batch, dim)
        rank, ranks = world()
        own_a = rank * batch + torch.arange(batch, device=z_a.device)
        own_b = own_a + ranks * batch
        itself, columns = torch.cat([own_a, own_b]), torch.arange(len(keys), device=z_a.device)
        queries = torch.cat([z_a, z_b]) / temperature
        return contrast(queries, keys, torch.cat([own_b, own_a]), lambda rows: itself[rows].unsqueeze(1) == columns, chunk)


class NTXent(Objective):
    """SimCLR: a projection head and NT-Xent between the two views' clip embeddings."""

    @dataclass(frozen=True)
    class Options:
        """Defaults of SimCLR."""

        temperature: float = temperature_option(0.1)
        projection_dim: int = width_option(256, "width of the projection")
        hidden_dim: int = width_option(1024, "width of the projection head's hidden layer")
        chunk: int = chunk_option()

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
        self.head = projection_head(dim, hidden_dim, projection_dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss of the first two views' clip embeddings (2, batch, dim)."""
        z_a, z_b = self.head(encoded.clip[:2].flatten(0, 1)).chunk(2)
        return nt_xent(z_a, z_b, self.temperature, self.chunk)
