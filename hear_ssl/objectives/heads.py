"""Projection and prediction heads between the embedding and the loss; they are not exported."""

from __future__ import annotations

import itertools

from torch import Tensor, nn


def projection_head(dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Return Linear, BatchNorm, ReLU, Linear (Chen et al., SimCLR, 2020, section 4.2)."""
    return nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim),
    )


def deep_head(widths: list[int], last_norm: bool, last_bias: bool = False) -> nn.Sequential:
    """Return Linear, BatchNorm, ReLU between all widths; with `last_norm` the last Linear is followed by BatchNorm without affine."""
    layers: list[nn.Module] = []
    for place, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        last = place == len(widths) - 2
        layers.append(nn.Linear(fan_in, fan_out, bias=last and last_bias))
        if not last:
            layers += [nn.BatchNorm1d(fan_out), nn.ReLU(inplace=True)]
        elif last_norm:
            layers.append(nn.BatchNorm1d(fan_out, affine=False))
    return nn.Sequential(*layers)


def two_views(clip: Tensor | None) -> Tensor:
    """Return the first two views of clip embeddings as rows (2 * batch, dim)."""
    assert clip is not None
    return clip[:2].flatten(0, 1)
