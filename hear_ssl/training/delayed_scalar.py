"""Read a scalar of the device one step later, so that the host does not wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


class DelayedScalar:
    """A scalar on the device that is read one step later, when the device has already computed it.

    Reading it at once would make the host wait until the device has finished all queued work. On the CPU it is read at once.
    """

    def __init__(self) -> None:
        self.handed: tuple[Tensor, int, torch.cuda.Event] | None = None

    def swap(self, value: Tensor, step: int) -> tuple[float, int] | None:
        """Store the value of a step and return an earlier value with its step; None at the first step on a GPU."""
        if not value.is_cuda:
            return float(value), step
        due = self.take()
        host = torch.empty((), dtype=torch.float32, pin_memory=True)
        host.copy_(value.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self.handed = (host, step, event)
        return due

    def take(self) -> tuple[float, int] | None:
        """Wait for the last stored value and return it with its step; None when it was already returned."""
        handed, self.handed = self.handed, None
        if handed is None:
            return None
        handed[2].synchronize()
        return float(handed[0]), handed[1]
