"""Where the time of a step goes: seconds by stage, counted in every run.

On a GPU the training process only queues work, so a stage's seconds are those of queueing; `exact` waits for the device at
the end of every stage, which a profile wants and a run does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

STAGES = ("wait", "copy", "views", "features", "forward", "loss", "backward", "optimizer", "logging", "checkpoint")
WORKER_STAGES = ("read", "decode")


class StepTimer:
    """Seconds spent in each stage since the start."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, *WORKER_STAGES), 0.0)
        self.exact = False
        self.began: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def begin(self, name: str) -> None:
        """Count from here; ends with `end`."""
        self.began[name] = time.perf_counter()

    def end(self, name: str) -> None:
        """Count up to here what `begin` began; nothing when it did not."""
        began = self.began.pop(name, None)
        if began is None:
            return
        if self.exact and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - began

    def add(self, seconds: dict[str, float]) -> None:
        """Count what a worker measured."""
        for name, value in seconds.items():
            self.seconds[name] += value

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Return the seconds of each stage since a copy of `seconds` was taken."""
        return {name: value - before[name] for name, value in self.seconds.items()}
