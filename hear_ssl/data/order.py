"""The order of samples: a pure function of (seed, position), so that any rank, worker or resumed run computes it alone.

Position p of the endless stream lies in pass p // clips. Each pass is a new permutation of all clips; every clip comes
exactly once in it. The global batch n holds positions n * batch_size to (n + 1) * batch_size - 1, so a batch may span
two passes and no partial batch exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Return a 63-bit hash of integers (SplitMix64 finaliser; Steele et al., OOPSLA 2014), the same on every machine."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ (value & MASK)) * 0xBF58476D1CE4E5B9 & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB + 0x9E3779B97F4A7C15) & MASK
        state ^= state >> 31
    return state >> 1


class SampleOrder:
    """The clips at any position of the stream; keeps the permutation of the last passes asked for."""

    def __init__(self, clips: int, seed: int) -> None:
        """Order `clips` clips by `seed`. Raises ValueError when there are none."""
        if clips < 1:
            raise ValueError("the shards hold no clips; pack some audio first")
        self.clips = clips
        self.seed = seed
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def permutation(self, pass_number: int) -> NDArray[np.int64]:
        """Return the order (clips,) of one pass."""
        if pass_number not in self._permutations:
            if len(self._permutations) > 1:
                del self._permutations[min(self._permutations)]
            self._permutations[pass_number] = np.random.default_rng(mix(self.seed, 1, pass_number)).permutation(self.clips)
        return self._permutations[pass_number]

    def at(self, position: int) -> tuple[int, int]:
        """Return (pass, clip) at a position of the stream."""
        pass_number, place = divmod(position, self.clips)
        return pass_number, int(self.permutation(pass_number)[place])

    def batch(self, step: int, batch_size: int, rank: int = 0, ranks: int = 1) -> list[tuple[int, int]]:
        """Return (pass, clip) of one rank's rows of the global batch of a step. batch_size is global and divisible by ranks."""
        rows = batch_size // ranks
        first = step * batch_size + rank * rows
        return [self.at(position) for position in range(first, first + rows)]
