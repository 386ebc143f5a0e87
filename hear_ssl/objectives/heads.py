"""Projection heads: small MLPs between the embedding and the loss; they stay behind at export."""

from __future__ import annotations

from torch import nn


def projection_head(dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Return Linear, BatchNorm, ReLU, Linear (Chen et al., 2020, section 4.2)."""
    return nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim),
    )
