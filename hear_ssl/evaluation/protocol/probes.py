"""Predictors in closed form: nearest neighbours by cosine, and ridge regression with a leave-one-out choice of the decay."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 5
DECAYS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean squared singular value


def nearest_neighbours(known: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Return the votes (asked, labels) of the five nearest by cosine, each weighted with its similarity."""
    cosines = F.normalize(asked, dim=1) @ F.normalize(known, dim=1).T
    nearest = cosines.topk(min(NEIGHBOURS, len(known)), dim=1)
    weights = (1.0 + nearest.values) / 2.0  # cosine -1..1 as 0..1
    return torch.einsum("ak,akl->al", weights, targets[nearest.indices]) / weights.sum(1, keepdim=True).clamp_min(1e-9)


def ridge(known: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Return the predictions (asked, labels) of ridge regression with the decay that minimises the leave-one-out error.

    With X = U S V', the leave-one-out error of row i is (y - fit) / (1 - h), h = sum_j U_ij^2 s_j^2 / (s_j^2 + decay)
    (Hastie et al., Elements of Statistical Learning, eq. 5.26 and 7.64), so one decomposition is enough for all decays.
    """
    offset = targets.mean(0)
    wanted = targets - offset
    fewer_rows = len(known) <= known.shape[1]
    values, vectors = torch.linalg.eigh((known @ known.T if fewer_rows else known.T @ known).double())
    values, vectors = values.clamp_min(0.0).float(), vectors.float()
    scaled = vectors * values.sqrt() if fewer_rows else known @ vectors  # (rows, rank): U S
    pulled = scaled.T @ wanted
    best, least = torch.zeros(known.shape[1], targets.shape[1]), float("inf")
    for decay in DECAYS:
        kept = (values + decay * values.mean().clamp_min(1e-9)).unsqueeze(1)
        leverage = (scaled.square() @ (1.0 / kept)).clamp_max(0.999)
        error = float(((wanted - scaled @ (pulled / kept)) / (1.0 - leverage)).square().mean())
        if error < least:
            dual = vectors @ (vectors.T @ wanted / kept) if fewer_rows else pulled / kept
            best, least = (known.T @ dual if fewer_rows else vectors @ dual), error
    return asked @ best + offset
