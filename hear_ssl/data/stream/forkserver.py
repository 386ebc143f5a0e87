"""The server that decoding workers are forked from: it has imported all they need, and no thread of the training is in it."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

LEFT_TO_TRAINING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def worker_context() -> BaseContext:
    """Return the context that workers start in: a start takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hear_ssl.data.stream.batch_stream", "hear_ssl.data.stream.workers"])
    return context


def start_early() -> None:
    """Start the server before the first worker asks for it, so that it imports beside the training process; returns at once.

    Call from the main thread. The server ignores the signals that end a run, also while it imports: the training process answers.
    """
    worker_context()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in LEFT_TO_TRAINING}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
