"""Process jobs in several processes, with results in order and a bounded number of pending jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

from hear_ssl.data.decoder_messages import discard_in_this_process
from hear_ssl.data.exit_with_parent import end_with_parent, is_stopped

STOPPED_SECONDS = 30.0
Job = TypeVar("Job")
Result = TypeVar("Result")


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result, None, None]:
    """Yield work(job) of every job, in order, from `workers` processes. Raises OSError when one of them dies."""
    waiting: deque[Future[Result]] = deque()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        for job in jobs:
            waiting.append(executor.submit(work, job))
            if len(waiting) > 4 * workers:
                yield _result(waiting.popleft(), others)
        while waiting:
            yield _result(waiting.popleft(), others)
    except BrokenProcessPool:
        raise OSError("a worker process died (out of memory?); run the same command again, with fewer --workers") from None
    finally:
        for worker in set(multiprocessing.active_children()) - others:
            if worker.pid and is_stopped(worker.pid):
                os.kill(worker.pid, signal.SIGCONT)  # so that it ends; if killed while it sends a result, the pool would wait for the rest
        executor.shutdown(cancel_futures=True)


def _result(future: Future[Result], others: set[BaseProcess]) -> Result:
    """Wait for a result and return it. Raises OSError that names a worker that stays stopped."""
    stopped: set[int | None] = set()
    while not wait([future], STOPPED_SECONDS).done:
        now = {worker.pid for worker in set(multiprocessing.active_children()) - others if is_stopped(worker.pid)}
        if now & stopped:
            raise OSError(f"the worker process {min(now & stopped, key=str)} is stopped (SIGSTOP); run the same command again")
        stopped = now
    return future.result()


def _start_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, and messages of the MP3 decoder; end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    discard_in_this_process()
