"""Encode a batch that does not fit in memory: chunk by chunk, recomputing each chunk in the backward pass.

The gradient cache of Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (2021),
https://arxiv.org/abs/2101.06983: the loss uses the embeddings of all clips, while the activations of only one chunk are in memory.
Value and gradient equal those of the whole batch for networks without BatchNorm; BatchNorm uses the statistics of its chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(encoder: nn.Module, features: Tensor, chunk: int, kept: Tensor | None = None) -> Tensor:
    """Return the last layer's tokens of features (rows, n_mels, frames), `chunk` rows at a time; 0: all at once.

    kept: the time steps to encode (rows, k), all by default.
    """

    def last(rows: Tensor, steps: Tensor | None) -> Tensor:
        tokens: Tensor = (encoder(rows) if steps is None else encoder(rows, steps))[-1]
        return tokens

    if not chunk or chunk >= features.shape[0]:
        return last(features, kept)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(encoder)

    pieces = []
    for index, rows in enumerate(torch.split(features, chunk)):
        steps = None if kept is None else kept[index * chunk : (index + 1) * chunk]
        piece = checkpoint(last, rows, steps, use_reentrant=False, context_fn=contexts)
        assert isinstance(piece, Tensor)
        pieces.append(piece)
    return torch.cat(pieces)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics unchanged: the second pass over a chunk must not count twice."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
