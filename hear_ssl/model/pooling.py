"""Pooling of tokens over time, chunk by chunk, so that a clip of 20 minutes needs no more memory than one of 20 seconds."""

from __future__ import annotations

from typing import List, Optional

import torch
from torch import Tensor

TERMS = ("mean", "max", "std")
DIMS_AT_ONCE = 1024
WITHOUT_FLOAT64 = ("mps",)  # device types: Apple GPUs


def parse_pooling(pooling: str) -> List[List[str]]:
    """Split 'mean+max,std' into groups to concatenate, each a list of terms to sum. Raises ValueError on other terms."""
    groups = [[term.strip() for term in group.split("+")] for group in pooling.split(",")]
    for term in (term for group in groups for term in group):
        if term not in TERMS:
            raise ValueError(f"pooling {pooling!r} has the term {term!r}; allowed are {', '.join(TERMS)}, joined by + or a comma")
    return groups


def pool_tokens(tokens: Tensor, how: str = "mean+max") -> Tensor:
    """Return the mean over time, the maximum over time, or their sum (batch, dim) of tokens (batch, tokens, dim)."""
    if how == "mean+max":
        return tokens.mean(1) + tokens.amax(1)
    return tokens.mean(1) if how == "mean" else tokens.amax(1)


def exact(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU when its device has no float64."""
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()


class TimePool:
    """Mean, max and standard deviation over time of all tokens added so far, as far as the pooling needs them.

    Sums are in float64, so that the mean over 30,000 tokens does not depend on how they were divided into chunks.
    """

    def __init__(self, pooling: str) -> None:
        self.groups = parse_pooling(pooling)
        self.terms = {term for group in self.groups for term in group}
        self.count = 0
        self.total: Optional[Tensor] = None
        self.squares: Optional[Tensor] = None
        self.highest: Optional[Tensor] = None

    def add(self, layers: List[Tensor]) -> None:
        """Add the tokens of layers, each (batch, tokens, dim of that layer)."""
        self.count += layers[0].shape[1]
        total, highest = exact_sum(layers), torch.cat([tokens.amax(1) for tokens in layers], -1)
        self.total = total if self.total is None else self.total + total
        self.highest = highest if self.highest is None else torch.maximum(self.highest, highest)
        if "std" in self.terms:
            squares = exact_sum(layers, 2)
            self.squares = squares if self.squares is None else self.squares + squares

    def result(self) -> Tensor:
        """Return the pooled embedding (batch, dim * groups), float32."""
        if self.total is None or self.highest is None:
            raise AssertionError("result() before add()")
        mean = self.total / self.count
        terms = {"mean": mean, "max": exact(self.highest)}
        if self.squares is not None:
            terms["std"] = (self.squares / self.count - mean.square()).clamp_min(0.0).sqrt()
        pooled = [torch.stack([terms[term] for term in group]).sum(0) for group in self.groups]
        return torch.cat(pooled, -1).float().to(self.highest.device)


def exact_sum(layers: List[Tensor], power: int = 1) -> Tensor:
    """Return the sum over time (batch, dim), float64, of layers (batch, tokens, dim), or of their squares with a power of 2.

    It avoids a copy of all layers in float64, which would dominate the memory of a long clip.
    """
    sums = []
    for tokens in layers:
        for start in range(0, tokens.shape[-1], DIMS_AT_ONCE):
            values = exact(tokens[..., start : start + DIMS_AT_ONCE])
            sums.append((values.square() if power == 2 else values).sum(1))
    return torch.cat(sums, -1)
