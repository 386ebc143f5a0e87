"""Count unreadable clips by shard and over all ranks of a run, and report each shard once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch.distributed as dist

from hear_ssl.data.stream.batch import UnreadableClip
from hear_ssl.errors import one_line, printable
from hear_ssl.progress import warn

FEWEST = 1000  # as long as fewer clips were read, the allowed share is that of this many clips


class UnreadableClips:
    """Numbers of clips read and unreadable on this rank. With several ranks, all of them must call `everywhere` and `report`."""

    def __init__(self, allowed: float) -> None:
        """Start at zero; `allowed` is the largest share of unreadable clips."""
        self.allowed = allowed
        self.clips_read = 0
        self.lost: Counter[str] = Counter()
        self.first: dict[str, UnreadableClip] = {}
        self.named: set[str] = set()

    def count(self, clips: int, lost: list[UnreadableClip]) -> None:
        """Count clips read and unreadable clips.

        Raises ValueError with the list when more than the allowed share was unreadable.
        """
        self.clips_read += clips
        for loss in lost:
            self.lost[loss.shard] += 1
            self.first.setdefault(loss.shard, loss)
        if not _several():
            self._name(self.first)
        if self.lost.total() > self.allowed * max(self.clips_read, FEWEST):
            raise ValueError(
                f"{self.lost.total()} of {self.clips_read} clips were lost, more than data.max_lost_fraction allows: {self.summary()}"
            )

    def everywhere(self) -> UnreadableClips:
        """Return the sum over all ranks."""
        if not _several():
            return self
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, (self.clips_read, self.lost, self.first))
        total = UnreadableClips(self.allowed)
        for clips_read, lost, first in parts:
            total.clips_read += clips_read
            total.lost += lost
            total.first = {**first, **total.first}
        return total

    def report(self) -> int:
        """Return the number of unreadable clips on all ranks; the first rank reports shards that were not reported yet."""
        total = self.everywhere()
        if not _several() or dist.get_rank() == 0:
            self._name(total.first)
        return total.lost.total()

    def summary(self) -> str:
        """Return 'shard (unreadable clips), ...' in descending order, or 'none'."""
        return ", ".join(f"{printable(shard)} ({count})" for shard, count in self.lost.most_common(20)) or "none"

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint, over all ranks."""
        total = self.everywhere()
        return {"clips_read": total.clips_read, "lost": dict(total.lost)}

    def load(self, state: dict[str, Any]) -> None:
        """Resume from `state`, which only the first rank adds to its counts."""
        if _several() and dist.get_rank():
            return
        self.clips_read, self.lost = int(state["clips_read"]), Counter(state["lost"])
        self.named = set(self.lost)

    def _name(self, first: dict[str, UnreadableClip]) -> None:
        for shard, loss in first.items():
            if shard not in self.named:
                warn(f"lost a clip of {one_line(str(loss))}; more of this shard are counted, not shown")
                self.named.add(shard)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
