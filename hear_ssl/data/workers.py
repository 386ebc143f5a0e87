"""How decoding workers start: forked from a clean server that has imported all they need."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.context import BaseContext

import torch


def forkserver() -> BaseContext:
    """Return the context that workers start in: a start takes milliseconds, and no thread of the training is copied."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hear_ssl.data.stream", "hear_ssl.data.workers"])
    return context


def start_worker(worker: int) -> None:
    """Leave Ctrl-C to the training process and keep to one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
