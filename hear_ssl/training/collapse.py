"""Measures of collapse on a batch of embeddings, without gradient; of large batches only the first rows are measured."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.model.pooling import exact

MEASURED_ROWS = 512  # with more, pairs and singular values would take a GPU as long as a training step


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Return RankMe, exp of the entropy of the singular values of (batch, dim): 1 when collapsed, at most min(batch, dim).

    Garrido et al., RankMe (2023), eq. 1, https://arxiv.org/abs/2210.02885. Embeddings are centred, so that a common offset does not
    hide a collapse. The singular values are computed as square roots of the eigenvalues of the smaller Gram matrix, which is many
    times faster; float64 compensates for the squaring.
    """
    values = exact(embeddings)
    centred = values - values.mean(0)
    gram = centred @ centred.T if centred.shape[0] <= centred.shape[1] else centred.T @ centred
    values = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    shares = values / values.sum().clamp_min(1e-12) + 1e-12
    return torch.exp(-(shares * shares.log()).sum()).float().to(embeddings.device)


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """Return the mean deviation per dimension of (batch, dim) on the unit sphere, times sqrt(dim): near 1 when spread evenly."""
    per_dimension: Tensor = F.normalize(embeddings.float(), dim=-1).std(0)
    return per_dimension.mean() * math.sqrt(embeddings.shape[-1])


@torch.no_grad()
def alignment(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared distance of positives (batch, dim) on the unit sphere (Wang and Isola, 2020, eq. 4)."""
    return (F.normalize(z_a.float(), dim=-1) - F.normalize(z_b.float(), dim=-1)).square().sum(-1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """Return ln of the mean Gaussian potential of all pairs of (batch, dim) (Wang and Isola, 2020, eq. 5); lower is more uniform."""
    distances = torch.pdist(F.normalize(embeddings.float(), dim=-1))
    return torch.exp(-2.0 * distances.square()).mean().log()


@torch.no_grad()
def similarities(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cosine of positives and of negatives of two views (batch, dim)."""
    cosines = F.normalize(z_a.float(), dim=-1) @ F.normalize(z_b.float(), dim=-1).T
    positive = cosines.diagonal().mean()
    count = cosines.shape[0]
    return positive, (cosines.sum() - cosines.diagonal().sum()) / max(count * count - count, 1)


def measures(clip: Tensor) -> dict[str, Tensor]:
    """Return all measures of two views' embeddings (2, batch, dim) by their names in metrics.csv, on at most MEASURED_ROWS clips."""
    device, clip = clip.device, clip[:, :MEASURED_ROWS]
    clip = clip.cpu() if device.type == "mps" else clip  # which has no pdist
    first, second = clip[0], clip[min(1, len(clip) - 1)]  # the same view twice if there is only one
    positive, negative = similarities(first, second)
    found = {
        "effective_rank": effective_rank(first),
        "spread": spread(first),
        "alignment": alignment(first, second),
        "uniformity": uniformity(first),
        "similarity_positive": positive,
        "similarity_negative": negative,
    }
    return {name: value.to(device) for name, value in found.items()}
