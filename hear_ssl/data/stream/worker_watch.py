"""Detect decoding workers that are stopped or hang.

The DataLoader's timeout does not cover everything: to map a batch's memory, the training process connects to the worker, and waits
forever if that is stopped. A thread therefore watches the workers and kills them, so that the wait in the training process fails.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from hear_ssl.data.exit_with_parent import is_stopped

LONGEST_POLL_SECONDS = 1.0
START_SECONDS = 60.0  # added for the first batch of each worker, which imports first
STOP_SECONDS = 5.0  # to wait for the next batch when the run should end


class WorkerError(OSError):
    """A worker died, or was killed because it hung; the state of the training is intact."""


@dataclass(frozen=True)
class Patience:
    """Limits of a watch: seconds without a batch (0: no limit), a value that changes during downloads, and whether the run should end."""

    seconds: float = 0.0
    activity: Callable[[], object] = lambda: None
    stopping: Callable[[], bool] = lambda: False


class WorkerWatch:
    """Watch the workers of one loader in a thread; `reason`: why it killed them; `stopped`: whether the run should end."""

    def __init__(self, workers: Sequence[BaseProcess], patience: Patience) -> None:
        self.workers, self.patience = workers, patience
        self.batches = 0
        self.reason = ""
        self.stopped = False
        self.waiting = False
        self.waited = self.stopping = 0.0
        self.not_running = [0.0] * len(workers)
        self.closed = threading.Event()
        self.poll_seconds = min(LONGEST_POLL_SECONDS, patience.seconds / 4 or LONGEST_POLL_SECONDS)
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time of the block as waiting for the next batch."""
        self.waited = self.stopping = 0.0
        self.waiting = True
        try:
            yield
            self.batches += 1
        finally:
            self.waiting = False

    def _run(self) -> None:
        before, activity = time.monotonic(), self.patience.activity()
        while not self.closed.wait(self.poll_seconds) and not self.reason and not self.stopped:
            now = time.monotonic()
            seconds = min(now - before, 2 * self.poll_seconds)  # more time passes only while this process is stopped as well
            before, earlier, activity = now, activity, self.patience.activity()
            self._count(seconds, activity != earlier)
            if self.reason or self.stopped:
                for worker in self.workers:
                    with suppress(OSError, ValueError):  # it has ended meanwhile
                        worker.kill()

    def _count(self, seconds: float, active: bool) -> None:
        limit = self.patience.seconds
        for number, worker in enumerate(self.workers):
            self.not_running[number] = self.not_running[number] + seconds if is_stopped(worker.pid) else 0.0
            if limit and self.not_running[number] > limit:
                self.reason = self._line(number, self.not_running[number])
        self.waited = self.waited + seconds if self.waiting and not active else 0.0
        started = self.batches >= len(self.workers)
        if limit and not self.reason and self.waited > limit + (0.0 if started else START_SECONDS):
            stopped = [number for number, worker in enumerate(self.workers) if is_stopped(worker.pid)]
            self.reason = self._line(stopped[0] if stopped else self.batches % len(self.workers), self.waited)
        self.stopping = self.stopping + seconds if self.waiting and self.patience.stopping() else 0.0
        self.stopped = self.stopping > STOP_SECONDS

    def _line(self, number: int, seconds: float) -> str:
        pid = self.workers[number].pid
        stopped = is_stopped(pid)
        return (
            f"decoding worker {number} (process {pid}) {'is stopped by a signal' if stopped else 'hangs'}: nothing came from it for"
            f" {seconds:.0f} s, data.worker_timeout allows {self.patience.seconds:g}; --resume the run"
            + ("" if stopped else ", with a higher data.worker_timeout if its disk is only slow")
        )
