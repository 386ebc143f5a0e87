"""Cross entropy of queries against keys, at once or in chunks that are recomputed in the backward pass.

The similarity matrix (queries, keys) dominates memory at large batches. Chunks of its rows with activation checkpointing (Chen et al.,
Training Deep Nets with Sublinear Memory Cost, 2016) have the same value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Excluded = Callable[[Tensor], Tensor]


def contrast(queries: Tensor, keys: Tensor, positives: Tensor, excluded: Excluded | None = None, chunk: int = 0) -> Tensor:
    """Return the mean cross entropy of `queries @ keys.T` at each query's positive.

    queries (rows, dim), divided by the temperature; keys (columns, dim); positives (rows,) column indices. excluded maps row
    indices (n,) to a mask (n, columns), true for keys to leave out. chunk: rows in memory at once, 0 for all.
    """
    rows = torch.arange(queries.shape[0], device=queries.device)
    if not chunk or chunk >= len(rows):
        return _sum(queries, keys, positives, rows, excluded) / len(rows)
    total = queries.new_zeros(())
    parts = zip(torch.split(queries, chunk), torch.split(positives, chunk), torch.split(rows, chunk), strict=True)
    for some_queries, some_positives, some_rows in parts:
        piece = checkpoint(_sum, some_queries, keys, some_positives, some_rows, excluded, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(piece, Tensor)
        total = total + piece
    return total / len(rows)


def _sum(queries: Tensor, keys: Tensor, positives: Tensor, rows: Tensor, excluded: Excluded | None) -> Tensor:
    logits = queries @ keys.T  # (rows, columns)
    if excluded is not None:
        logits = logits.masked_fill(excluded(rows), -torch.inf)
    return F.cross_entropy(logits, positives, reduction="sum")
