"""Encode views of several lengths with one pass per length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hear_ssl.distributed.gradient_cache import encode_in_chunks
from hear_ssl.model.pooling import pool_tokens


@dataclass
class EncodedViews:
    """The encoder's output for several views: pooled (views, batch, dim), and the tokens of each view (batch, tokens, dim).

    leading: the tokens of the leading views of equal shape (leading views, batch, tokens, dim).
    """

    clip: Tensor
    tokens: list[Tensor]
    leading: Tensor


def by_shape(function: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> list[Tensor]:
    """Return function(batch) for each batch (batch, ...); batches of equal shape are computed together."""
    results: list[Tensor] = [torch.empty(0)] * len(batches)
    for group in groups([batch.shape for batch in batches]):
        rows = function(torch.cat([batches[place] for place in group]))
        for place, result in zip(group, rows.chunk(len(group)), strict=True):
            results[place] = result
    return results


def groups(keys: Sequence[object]) -> list[list[int]]:
    """Return the indices of equal keys, grouped and in order."""
    found: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())


def encode_views(network: nn.Module, features: Sequence[Tensor], kept: Sequence[Tensor | None], chunk: int, pool: str) -> EncodedViews:
    """Return the last layer's tokens of each view's features (batch, n_mels, frames), and the tokens pooled over time.

    kept: for each view the time steps to encode (batch, k), or None for all. chunk: rows encoded at once, 0 for all.
    """
    clips: list[Tensor] = [torch.empty(0)] * len(features)
    tokens, leading, batch = list(clips), torch.empty(0), features[0].shape[0]
    passes = groups([(view.shape, None if steps is None else steps.shape[1]) for view, steps in zip(features, kept, strict=True)])
    for group in passes:
        steps = [kept[place] for place in group]
        rows = torch.cat([features[place] for place in group])
        found = encode_in_chunks(network, rows, chunk, None if steps[0] is None else torch.cat([one for one in steps if one is not None]))
        pooled = pool_tokens(found, pool).reshape(len(group), batch, -1)
        found = found.reshape(len(group), batch, *found.shape[1:])  # (views of the pass, batch, tokens, dim)
        for number, place in enumerate(group):
            clips[place], tokens[place] = pooled[number], found[number]
        if group[0] == 0:
            leading = found[: next((number for number, place in enumerate(group) if number != place), len(group))]
    return EncodedViews(pooled if len(passes) == 1 else torch.stack(clips), tokens, leading)
