"""The server from which decoding workers are forked: it has imported all that they need, and has no threads of the training process."""

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
    """A worker that does not run the user's program again, which therefore needs no `if __name__ == "__main__"`.

    If a worker gets an object that the program defines, such as a user's dataset, it must run the program: Python has no other way to
    find the class.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        start: Any = ForkServerProcess._Popen
        try:
            with hidden_program():
                return start(process_obj)
        except (PicklingError, AttributeError):  # before the process has started
            return start(process_obj)


class WorkerContext(ForkServerContext):
    """The start method `forkserver` with processes that are WorkerProcess."""

    Process = WorkerProcess


@contextmanager
def hidden_program() -> Iterator[None]:
    """Replace __main__ by an empty module during the block, since multiprocessing first runs its file in a new process."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def worker_context() -> BaseContext:
    """Return the multiprocessing context of workers, in which they start within milliseconds."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    return WorkerContext()


def start_early() -> None:
    """Start the server before the first worker needs it, so that it imports in parallel with the training process; returns at once.

    The server ignores the signals that end a run, also during its imports, since the training process handles them. Only the main thread
    can set that; in another thread this does nothing, and the first worker starts the server.
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
