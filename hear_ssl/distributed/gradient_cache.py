"""Encode a batch that does not fit memory: chunk by chunk, each computed again in the backward pass.

The gradient cache of Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (2021),
https://arxiv.org/abs/2101.06983: the loss sees the embeddings of all clips, activations of one chunk exist at a time. Value and
gradient are those of the whole batch for networks without BatchNorm; BatchNorm sees the statistics of its chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(encoder: nn.Module, features: Tensor, chunk: int) -> Tensor:
    """Return the last layer's tokens of features (rows, n_mels, frames), `chunk` rows at a time; 0 takes all at once."""

    def last(rows: Tensor) -> Tensor:
        tokens: Tensor = encoder(rows)[-1]
        return tokens

    if not chunk or chunk >= features.shape[0]:
        return last(features)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(encoder)

    pieces = []
    for rows in torch.split(features, chunk):
        piece = checkpoint(last, rows, use_reentrant=False, context_fn=contexts)
        assert isinstance(piece, Tensor)
        pieces.append(piece)
    return torch.cat(pieces)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave BatchNorm's running statistics alone: the second pass over a chunk must not count twice."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
