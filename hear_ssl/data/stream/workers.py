"""How decoding workers start, and what their errors contain."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from hear_ssl.data.exit_with_parent import end_with_parent
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.forkserver import LEFT_TO_TRAINING, WorkerProcess
from hear_ssl.data.stream.worker_watch import Patience, WorkerError, WorkerWatch

SHARED_MEMORY = ("allocate shared memory", "shared memory object", "Bus error", "out of shared memory")  # words of torch
MORE_SHARED_MEMORY = "start the container with --shm-size=8g, or set data.workers=0 or a smaller data.batch_size"


def start_worker(worker: int) -> None:
    """Leave signals to the training process, keep to one thread, and end with the training.

    A job's end, SIGTERM or SLURM's SIGUSR1, reaches every process of it; the training needs the worker until it has saved.
    torch's own watch asks for the parent's id: that of the forkserver, which lives as long as a worker does.
    """
    for number in LEFT_TO_TRAINING:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)


def kill_workers() -> None:
    """End, as Python exits, the workers of iterators still open: they ignore the SIGTERM that multiprocessing sends before it waits."""
    for child in multiprocessing.active_children():
        if isinstance(child, WorkerProcess):
            child.kill()


class WorkerLoader(DataLoader[Batch]):
    """A DataLoader whose errors are for a user to read, and which notices workers that are stopped or hang."""

    def __init__(self, *arguments: Any, patience: Patience | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.patience = patience or Patience()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches; they end where the run is to end and the next one does not come.

        Raises what reading them raised without its worker's traceback, WorkerError when a worker died or hangs.
        """
        received = super().__iter__()
        if not self.num_workers:
            yield from received
            return
        atexit.unregister(kill_workers)
        atexit.register(kill_workers)  # after what multiprocessing has registered, so that it comes before
        watch = WorkerWatch(getattr(received, "_workers", []), self.patience)
        try:
            while True:
                try:
                    with watch.wait():
                        batch = next(received)
                except StopIteration:
                    return
                except Exception as error:
                    if watch.stopped:
                        return
                    plain = WorkerError(watch.reason) if watch.reason else plain_error(error)
                    if plain is None:
                        raise
                    raise plain from None
                yield batch
        finally:
            watch.closed.set()


def plain_error(error: Exception) -> ValueError | OSError | None:
    """Return one line for what came out of a loader with workers: WorkerError when a worker died, None for a mistake of ours.

    A worker that is killed while the training process takes a batch's memory from it shows itself as a connection that
    breaks; DataLoader reports that a worker exited only once the forkserver has reaped it.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and any(mark in text for mark in SHARED_MEMORY):
        return OSError(f"shared memory is full ({text.rpartition('RuntimeError: ')[2][:100]}); {MORE_SHARED_MEMORY}")
    if isinstance(error, RuntimeError) and text.startswith("Too many open files"):
        return OSError("too many open files to receive batches; raise the limit with `ulimit -n 65536`, or set data.workers=0")
    if text.startswith("Caught ") and "in DataLoader worker process" in text:
        line = str(error).strip().splitlines()[-1].partition(": ")[2]
        return next((kind(line) for kind in (ValueError, OSError) if isinstance(error, kind)), None)
    torn = isinstance(error, OSError) and text == "got end of file during message"
    exited = isinstance(error, RuntimeError) and text.startswith(("DataLoader worker (pid", "Pin memory thread exited"))
    if torn or exited or isinstance(error, (ConnectionError, EOFError)):
        return WorkerError(
            f"a decoding worker died ({text[:120] or type(error).__name__}); is memory short? Lower data.workers, then --resume"
        )
    return None
