"""Start decoding workers, and convert their errors to one line."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from hear_ssl.data.decoder_messages import discard_in_this_process
from hear_ssl.data.exit_with_parent import end_with_parent
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.forkserver import LEFT_TO_TRAINING, WorkerProcess
from hear_ssl.data.stream.worker_watch import Patience, WorkerError, WorkerWatch

SHARED_MEMORY = ("allocate shared memory", "shared memory object", "Bus error", "out of shared memory")  # words of torch
MORE_SHARED_MEMORY = "start the container with --shm-size=8g, or set data.workers=0 or a smaller data.batch_size"


def start_worker(worker: int) -> None:
    """Ignore signals that the training process handles and messages of the MP3 decoder, use one thread, and end with the training process.

    The signals at a job's end, SIGTERM or SLURM's SIGUSR1, reach every process of the job, but training needs the worker until it has
    saved. torch's own check uses the parent's id, which is that of the forkserver and lives as long as a worker.
    """
    for number in LEFT_TO_TRAINING:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    discard_in_this_process()
    torch.set_num_threads(1)


def kill_workers() -> None:
    """Kill, when Python exits, the workers of open iterators, since they ignore the SIGTERM that multiprocessing sends before it waits."""
    for child in multiprocessing.active_children():
        if isinstance(child, WorkerProcess):
            child.kill()


class WorkerLoader(DataLoader[Batch]):
    """A DataLoader with readable errors that detects workers which are stopped or hang."""

    def __init__(self, *arguments: Any, patience: Patience | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.patience = patience or Patience()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches, until the run should end and the next batch does not arrive.

        Raises the worker's error without its traceback, or WorkerError when a worker died or hangs.
        """
        received = super().__iter__()
        if not self.num_workers:
            yield from received
            return
        atexit.unregister(kill_workers)
        atexit.register(kill_workers)  # registered after multiprocessing's handler, so that it is called first
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
    """Return a one-line error for an exception of a loader with workers: WorkerError when a worker died, None for a bug of ours.

    When a worker is killed while the training process maps a batch's memory, the connection breaks; DataLoader reports that a worker
    exited only after the forkserver has reaped it.
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
