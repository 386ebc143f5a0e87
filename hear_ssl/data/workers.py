"""How decoding workers start, forked from a clean server that has imported all they need, and what their errors say."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.context import BaseContext

import torch

from hear_ssl.data.parent import end_with_parent


def forkserver() -> BaseContext:
    """Return the context that workers start in: a start takes milliseconds, and no thread of the training is copied."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hear_ssl.data.stream", "hear_ssl.data.workers"])
    return context


def start_worker(worker: int) -> None:
    """Leave Ctrl-C to the training process, keep to one thread, and end with the training.

    torch's own watch asks for the parent's id: that of the forkserver, which lives as long as a worker does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)


def plain_error(error: Exception) -> Exception:
    """Return an error that came out of a loader without the worker's traceback; OSError for a worker that was killed."""
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker (pid"):
        return OSError(f"a decoding worker died ({' '.join(text.split())[:120]}); is memory short? Lower data.workers, then --resume")
    if text.startswith("Caught ") and "in DataLoader worker process" in text:
        return type(error)(text.strip().splitlines()[-1].partition(": ")[2])
    return error
