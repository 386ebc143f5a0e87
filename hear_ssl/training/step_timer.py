"""Seconds of each stage of a step, counted in every run.

On a GPU the training process only queues work, so the seconds of a stage are those of queueing. With `exact`, the timer synchronises
the device at the end of every stage, as a profile needs.
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
        """Start timing a stage, until `end`."""
        self.began[name] = time.perf_counter()

    def end(self, name: str) -> None:
        """Add the time since `begin`; do nothing when the stage was not begun."""
        began = self.began.pop(name, None)
        if began is None:
            return
        if self.exact and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - began

    def add(self, seconds: dict[str, float]) -> None:
        """Add the seconds that a worker measured."""
        for name, value in seconds.items():
            self.seconds[name] += value

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Return the seconds of each stage since `before`, an earlier copy of `seconds`."""
        return {name: value - before[name] for name, value in self.seconds.items()}
