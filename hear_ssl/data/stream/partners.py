"""Positive pairs of clips: find the partner that a clip's JSON record names, by its key within one folder or address."""

from __future__ import annotations

from itertools import chain
from typing import Any

from hear_ssl.data.shards.reader import ShardSet


class Partners:
    """Finds partners: in the clip's own shard, where pairs usually stand, else in all shards of its folder that can be read.

    With windows, the shards of an address are not searched beyond the clip's own: that would fetch them all.
    """

    def __init__(self, shards: ShardSet, window_shards: int) -> None:
        """Raise ValueError when there are no pairs; with windows the first shard of an address stands for all of them."""
        self.shards, self.window_shards = shards, window_shards
        self._numbers: dict[str, dict[bytes, int]] = {}
        firsts = {source.address: number for number, (source, _) in reversed(list(enumerate(shards.shards)))}.values()
        others = (number for number, (source, _) in enumerate(shards.shards) if not (source.cache and window_shards))
        clips = chain.from_iterable(range(*shards.first_clips[number : number + 2]) for number in chain(firsts, others))
        if not any(self._has_pair(number) for number in clips):
            raise ValueError(
                "data.positives is pairs, but these shards hold no pairs;"
                " make some with python -m hear_ssl.synthesis or hear_ssl.data.pair_recordings"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to a worker without the numbers, which are found there as needed."""
        return {**self.__dict__, "_numbers": {}}

    def number(self, clip: int, partner: Any) -> int:
        """Return the number of the clip with the key that a clip's record names. Raises ValueError when it is not there."""
        shard = self.shards.shard_of(clip)
        source, key = self.shards.shards[shard][0], str(partner).encode(errors="surrogateescape")
        place = self.shards.table(shard).place(key)
        if place is not None:
            return self.shards.first_clips[shard] + place
        if source.cache and self.window_shards:
            raise ValueError(f"its partner {str(partner)[:60]!r} is not in its shard, the only one searched with data.window_shards")
        if source.address not in self._numbers:
            self._numbers[source.address] = self._of_address(source.address)
        if key not in self._numbers[source.address]:
            raise ValueError(f"its partner {str(partner)[:60]!r} is not in the shards that can be read")
        return self._numbers[source.address][key]

    def _of_address(self, address: str) -> dict[bytes, int]:
        numbers: dict[bytes, int] = {}
        for shard, first in enumerate(self.shards.first_clips[:-1]):
            if self.shards.shards[shard][0].address == address:
                numbers |= {key: number for number, key in enumerate(self.shards.table(shard).rows["key"].tolist(), start=first)}
        return numbers

    def _has_pair(self, number: int) -> bool:
        try:
            return "pair" in self.shards.record(self.shards.clip(number))
        except (ValueError, OSError):
            return False
