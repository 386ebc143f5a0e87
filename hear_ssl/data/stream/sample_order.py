"""The order of samples: a pure function of (seed, position) that any rank, worker or resumed run can compute.

Position p of the endless stream belongs to one pass; each pass is a new permutation that contains every clip exactly once. The global
batch n has the positions n * batch_size to (n + 1) * batch_size - 1, so a batch may span two passes and there is no partial batch.
Clips are shuffled all together or, for data larger than the disk, within windows of some shards. Several sources can be mixed by
weight, each with its own passes.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hear_ssl.progress import counted

MASK = (1 << 64) - 1
MIX_BLOCK = 1000  # positions in which a mixture has exactly its weights
KEPT = 4  # permutations in memory: of this and the next window or pass, for a batch of two sources


def hash_integers(*values: int) -> int:
    """Return a 63-bit hash of integers (SplitMix64 finaliser; Steele et al., OOPSLA 2014), the same on every machine."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ (value & MASK)) * 0xBF58476D1CE4E5B9 & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB + 0x9E3779B97F4A7C15) & MASK
        state ^= state >> 31
    return state >> 1


class Place(NamedTuple):
    """The sample at a position: number of the pass, number of the clip, and the shards of its window (empty: all)."""

    pass_number: int
    clip: int
    window: tuple[int, ...] = ()


class SampleOrder:
    """The clips at any position of the stream; the last permutations are kept in memory."""

    def __init__(self, shard_clips: list[int], seed: int, window: int = 0) -> None:
        """Order shards with these numbers of clips by `seed`; `window`: number of shards shuffled together, 0 for all.

        Raises ValueError when there are no clips.
        """
        self.clips = sum(shard_clips)
        if self.clips < 1:
            raise ValueError("the shards hold no clips; pack some audio first")
        self.seed = seed
        self.window = window if window < len(shard_clips) else 0
        self.shard_clips = np.array(shard_clips, np.int64)
        self.first_clips = np.cumsum(self.shard_clips) - self.shard_clips
        self._permutations: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._shards: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def at(self, position: int) -> Place:
        """Return the sample at a position of the stream."""
        pass_number, place = divmod(position, self.clips)
        if not self.window:
            return Place(pass_number, int(self.permutation(pass_number)[place]))
        shards, ends = self._windows(pass_number)
        number = int(np.searchsorted(ends, place, side="right"))
        start = int(ends[number - 1]) if number else 0
        clip = int(self.permutation(pass_number, number)[place - start])
        return Place(pass_number, clip, tuple(shards[number * self.window : (number + 1) * self.window].tolist()))

    def permutation(self, pass_number: int, window: int = 0) -> NDArray[np.int64]:
        """Return the order (clips,) of one pass, or of one of its windows."""
        key = (pass_number, window)
        if key not in self._permutations:
            if len(self._permutations) >= KEPT:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[key] = self._shuffled(pass_number, window)
        return self._permutations[key]

    def upcoming(self, position: int) -> tuple[int, ...]:
        """Return the shards of the window after that of a position; none if all shards are shuffled together."""
        if not self.window:
            return ()
        pass_number, place = divmod(position, self.clips)
        _, ends = self._windows(pass_number)
        return self.at(pass_number * self.clips + int(ends[np.searchsorted(ends, place, side="right")])).window

    def substitute(self, position: int, draw: int) -> int:
        """Return the replacement of an unreadable clip, drawn by a hash from the clips of its window."""
        place = self.at(position)
        if not place.window:
            return draw % self.clips
        clips = self._of_shards(np.array(place.window))
        return int(clips[draw % len(clips)])

    def batch(self, step: int, batch_size: int, rank: int = 0, ranks: int = 1) -> range:
        """Return the positions of one rank's rows of the global batch of a step; the global size is divisible by ranks."""
        rows = batch_size // ranks
        first = step * batch_size + rank * rows
        return range(first, first + rows)

    def _shuffled(self, pass_number: int, window: int) -> NDArray[np.int64]:
        if not self.window:
            return np.random.default_rng(hash_integers(self.seed, 1, pass_number)).permutation(self.clips)
        shards, _ = self._windows(pass_number)
        clips = self._of_shards(shards[window * self.window : (window + 1) * self.window])
        return np.random.default_rng(hash_integers(self.seed, 6, pass_number, window)).permutation(clips)

    def _of_shards(self, shards: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([np.arange(self.first_clips[n], self.first_clips[n] + self.shard_clips[n]) for n in shards])

    def _windows(self, pass_number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the order of the shards in a pass (shards,) and the end of each window (windows,)."""
        if pass_number not in self._shards:
            if len(self._shards) >= KEPT:
                del self._shards[next(iter(self._shards))]
            shards = np.random.default_rng(hash_integers(self.seed, 5, pass_number)).permutation(len(self.shard_clips))
            ends = np.cumsum(self.shard_clips[shards])
            last = [min(end, len(shards)) - 1 for end in range(self.window, len(shards) + self.window, self.window)]
            self._shards[pass_number] = (shards, ends[last])
        return self._shards[pass_number]


class MixedOrder(SampleOrder):
    """Several sources mixed by weight: each source has its share of every 1,000 positions, and its own passes."""

    def __init__(self, sources: list[list[int]], weights: list[float], seed: int, window: int = 0) -> None:
        """Order sources, each given by the clips per shard. Raises ValueError when weights do not fit the sources."""
        if len(weights) != len(sources) or not all(0 < weight < math.inf for weight in weights):
            given = f"data.weights has {counted(len(weights), 'number')} for {counted(len(sources), 'source')}"
            raise ValueError(f"{given}; give a finite one above 0 for each of data.shards")
        super().__init__([count for source in sources for count in source], seed)
        self.orders = [SampleOrder(source, hash_integers(seed, 7, number), window) for number, source in enumerate(sources)]
        self.first_of_source = [0, *accumulate(order.clips for order in self.orders)]
        self.first_shards = [0, *accumulate(len(source) for source in sources)]
        self.shares = apportioned(weights, MIX_BLOCK)
        if min(self.shares) < 1:
            raise ValueError(f"data.weights holds one below a {MIX_BLOCK}th of the sum; leave that source out, or weigh it more")

    def at(self, position: int) -> Place:
        """Return the sample at a position of the stream."""
        source, own = self._source(position)
        place = self.orders[source].at(own)
        return Place(place.pass_number, self.first_of_source[source] + place.clip, self._global(source, place.window))

    def upcoming(self, position: int) -> tuple[int, ...]:
        """Return the shards of the next window of the source at a position."""
        source, own = self._source(position)
        return self._global(source, self.orders[source].upcoming(own))

    def substitute(self, position: int, draw: int) -> int:
        """Return the replacement of an unreadable clip, from the same source."""
        source, own = self._source(position)
        return self.first_of_source[source] + self.orders[source].substitute(own, draw)

    def _global(self, source: int, shards: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.first_shards[source] + shard for shard in shards)

    def _source(self, position: int) -> tuple[int, int]:
        """Return the source at a position, and the position in the stream of that source."""
        block, place = divmod(position, MIX_BLOCK)
        key = (block, -1)
        if key not in self._permutations:
            if len(self._permutations) >= KEPT:
                del self._permutations[next(iter(self._permutations))]
            slots = np.repeat(np.arange(len(self.shares)), self.shares)
            self._permutations[key] = np.random.default_rng(hash_integers(self.seed, 8, block)).permutation(slots)
        slots = self._permutations[key]
        source = int(slots[place])
        return source, block * self.shares[source] + int((slots[:place] == source).sum())


def apportioned(weights: list[float], total: int) -> list[int]:
    """Return integers that sum to `total` in proportion to the weights (largest remainders)."""
    exact = [weight / sum(weights) * total for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (whole[number] - exact[number], number))
    for number in by_remainder[: total - sum(whole)]:
        whole[number] += 1
    return whole
