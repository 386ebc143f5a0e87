"""Positive pairs of clips: find the partner named in a clip's JSON record, by its key in the same folder or address."""

from __future__ import annotations

from itertools import chain
from typing import Any

from hear_ssl.data.shards.reader import ShardSet


class Partners:
    """Find partners, first in the clip's shard, where pairs usually are, then in all readable shards of its folder.

    With windows, only the clip's shard is searched at an address, since a search would download all shards.
    """

    def __init__(self, shards: ShardSet, window_shards: int) -> None:
        """Raise ValueError when there are no pairs; with windows only the first shard of an address is checked."""
        self.shards, self.window_shards = shards, window_shards
        self._numbers: dict[str, dict[bytes, int]] = {}
        firsts = {source.address: number for number, (source, _) in reversed(list(enumerate(shards.shards)))}.values()
        others = (number for number, (source, _) in enumerate(shards.shards) if not (source.cache and window_shards))
        clips = chain.from_iterable(range(*shards.first_clips[number : number + 2]) for number in chain(firsts, others))
        if not any(self._has_pair(number) for number in clips):
            raise ValueError("data.positives is pairs, but these shards hold no pairs; make some with hear-ssl synth or hear-ssl pairs")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the table of keys, which each worker builds as needed."""
        return {**self.__dict__, "_numbers": {}}

    def number(self, clip: int, partner: Any) -> int:
        """Return the number of the clip with the key `partner`, from the record of `clip`. Raises ValueError when it is missing."""
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
