"""Parallel jobs with one torch thread each; when one fails, or on Ctrl-C, the others end soon."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Done = TypeVar("Done")
Item = TypeVar("Item")
_ended = threading.Event()


def check_ended() -> None:
    """Raise RuntimeError when the result of a job is no longer needed; long jobs call it regularly."""
    if _ended.is_set():
        raise RuntimeError("another job has ended them all")


def run_parallel(jobs: list[Callable[[], Done]]) -> list[Done]:
    """Return the results of jobs in order; as many run at once as torch has threads.

    One thread per network uses several cores better than several threads per matrix product, and the results do not depend on the number
    of threads. A single job uses all threads, which may affect its rounding.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(jobs) < 2:
        return [job() for job in jobs]

    def alone(job: Callable[[], Done]) -> Done:
        torch.set_num_threads(1)  # applies to the calling thread
        return job()

    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(alone, jobs))
    except BaseException:
        _ended.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _ended.clear()
        torch.set_num_threads(threads)


def map_ahead(function: Callable[[Item], Done], items: Iterable[Item], workers: int, threads: int) -> Iterator[Done]:
    """Yield a function's results for items in order, computed by `workers` at once with `threads` torch threads each.

    The calling thread prepares the next items meanwhile; at most one more item than workers is pending.
    """
    before = torch.get_num_threads()

    def run(item: Item) -> Done:
        torch.set_num_threads(threads)  # applies to the calling thread
        return function(item)

    pool = ThreadPoolExecutor(workers)
    begun: deque[Future[Done]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(run, item))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    except BaseException:
        _ended.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _ended.clear()
        torch.set_num_threads(before)
