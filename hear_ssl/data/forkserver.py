"""The server that decoding workers are forked from: it has imported all they need, and no thread of the training is in it."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing import forkserver
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """Return the context that workers start in: a start takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hear_ssl.data.stream", "hear_ssl.data.workers"])
    return context


def start_early() -> None:
    """Start the server before the first worker asks for it, so that it imports beside the training process; returns at once.

    Call from the main thread. The server ignores Ctrl-C also while it imports: the training process answers.
    """
    worker_context()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
