"""Random numbers per sample: a pure function of (seed, stream, counter), independent of the rest of the batch.

A view of a clip is then the same on any rank, in any batch and after a resume. The generator hashes integers with the
SplitMix64 finaliser (Steele, Lea and Flood, OOPSLA 2014) in int64 tensors, whose overflow wraps around.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


GOLDEN = _signed(0x9E3779B97F4A7C15)
FIRST = _signed(0xBF58476D1CE4E5B9)
SECOND = _signed(0x94D049BB133111EB)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)  # int64 shifts extend the sign: mask it


def hash_tensor(value: Tensor) -> Tensor:
    """Return the SplitMix64 hash of int64 values, elementwise."""
    value = value + GOLDEN
    value = (value ^ _shift_right(value, 30)) * FIRST
    value = (value ^ _shift_right(value, 27)) * SECOND
    return value ^ _shift_right(value, 31)


class SampleRandom:
    """Draw random numbers for each sample of a batch from its own seed; every call draws new numbers."""

    def __init__(self, seeds: Tensor, stream: int) -> None:
        """Start from seeds (batch,) int64; different streams of one seed are independent."""
        self.state = hash_tensor(seeds ^ hash_tensor(torch.full_like(seeds, stream)))
        self.draws = 0

    @classmethod
    def at(cls, state: Tensor) -> SampleRandom:
        """Return a generator whose first draws are those after `state` (batch,) int64, see `advanced`."""
        random = cls.__new__(cls)
        random.state, random.draws = state, 0
        return random

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        counter = torch.arange(self.draws, self.draws + count, device=self.state.device)
        self.draws += count
        return hash_tensor(self.state.unsqueeze(1) + counter * GOLDEN).reshape(-1, *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32 (batch, *shape), uniform in [low, high)."""
        return low + (high - low) * (_shift_right(self._bits(shape), 40).float() / 2**24)

    def normal(self, *shape: int) -> Tensor:
        """Return float32 (batch, *shape), standard normal (Box and Muller, 1958): two values from each pair of draws."""
        count = math.prod(shape)
        radius = torch.sqrt(-2.0 * torch.log1p(-self.uniform((count + 1) // 2)))
        angle = 2.0 * math.pi * self.uniform((count + 1) // 2)
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
        return both[:, :count].reshape(-1, *shape)

    def integers(self, high: Tensor | int, *shape: int) -> Tensor:
        """Return int64 (batch, *shape), uniform in 0 .. high - 1; high is one number or broadcasts against the result."""
        bounds = torch.as_tensor(high, device=self.state.device)
        return (self.uniform(*shape) * bounds).long().clamp_(max=bounds - 1) if bounds.ndim == 0 else (self.uniform(*shape) * bounds).long()


def advanced(state: Tensor, draws: int) -> Tensor:
    """Return the state (batch,) of a generator that has made `draws` draws per sample since `state`."""
    return state + _signed(draws * GOLDEN & (1 << 64) - 1)
