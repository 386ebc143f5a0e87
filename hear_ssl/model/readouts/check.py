"""Check a user's readout on a few tokens when it is built."""

from __future__ import annotations

from typing import Any, List, Sequence

import torch
from torch import Tensor

from .base import Chunk, Readout

TOKENS, CUTS = 7, ((0, 7), (0, 3, 7), (0, 1, 6, 7))


@torch.no_grad()
def check_readout(readout: Readout, kind: str, layer_dims: Sequence[int], n_mels: int, time_stride: int, **offered: Any) -> None:
    """Raise ValueError unless a readout returns embeddings of its width that do not depend on where a clip is cut into chunks."""
    width = readout.width
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"it must set width, the dimensions of its embedding, to a whole number of 1 or more; it is {width!r}")
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(1, TOKENS, dim, generator=generator) for dim in layer_dims]
    features = torch.randn(1, n_mels, TOKENS * time_stride, generator=generator)
    results: List[Tensor] = []
    for cuts in CUTS:
        out = torch.full((1, width) if kind == "scene" else (1, TOKENS, width), float("nan"))
        state = readout.start(out)
        for number, last in enumerate(cuts[1:]):
            first = cuts[number]
            frames = slice(first * time_stride, last * time_stride)
            readout.add(state, Chunk([layer[:, first:last] for layer in layers], features[:, :, frames], slice(first, last, 1)))
        found = readout.result(state)
        if not isinstance(found, Tensor) or found.shape != out.shape:
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"result must return embeddings {tuple(out.shape)} for a clip of {TOKENS} tokens; it returned {given}")
        if not torch.isfinite(found).all():
            raise ValueError("result has dimensions that are not finite, or that were never written, for a clip of random tokens")
        results.append(found.clone())
    if not all(torch.allclose(results[0], other, rtol=1e-4, atol=1e-4) for other in results[1:]):
        raise ValueError("its result depends on where a clip is cut into chunks; let add gather what result needs of all chunks")
