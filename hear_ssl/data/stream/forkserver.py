"""The server that decoding workers are forked from: it has imported all they need, and no thread of the training is in it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pickle import PicklingError
from types import ModuleType
from typing import Any

LEFT_TO_TRAINING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PRELOADED = ["hear_ssl.data.stream.batch_stream", "hear_ssl.data.stream.workers"]


class WorkerProcess(ForkServerProcess):
    """A worker. It does not run the program again that started the training, so that this needs no `if __name__ == "__main__"`.

    A worker that is given something which the program defines, such as a data set of the user's, must: Python finds it in no other way.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        start: Any = ForkServerProcess._Popen
        try:
            with hidden_program():
                return start(process_obj)
        except (PicklingError, AttributeError):  # before anything has started
            return start(process_obj)


class WorkerContext(ForkServerContext):
    """The start method `forkserver` with processes that are WorkerProcess."""

    Process = WorkerProcess


@contextmanager
def hidden_program() -> Iterator[None]:
    """Let the block find an empty module as __main__: what multiprocessing makes a process run first is its file."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def worker_context() -> BaseContext:
    """Return the context that workers start in: a start takes milliseconds."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    return WorkerContext()


def start_early() -> None:
    """Start the server before the first worker asks for it, so that it imports while the training process does; returns at once.

    The server ignores the signals that end a run, also while it imports: the training process answers. Only the main thread may set
    that; called from another one, this leaves the start to the first worker.
    """
    worker_context()
    if threading.current_thread() is not threading.main_thread():
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in LEFT_TO_TRAINING}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # set by a library in C, which Python cannot set again
                signal.signal(number, handler)
