"""Jobs in parallel, a thread of torch each; when one fails, or Ctrl-C ends the wait for them, the others end soon."""

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
    """Raise RuntimeError when nobody waits for a job any more; a long job calls it now and then."""
    if _ended.is_set():
        raise RuntimeError("another job has ended them all")


def run_parallel(jobs: list[Callable[[], Done]]) -> list[Done]:
    """Return the results of jobs in order, run as many at once as torch has threads.

    One thread a network uses several cores better than several threads a product, and results do not depend on how many. A
    single job has all threads for itself, which its rounding may depend on.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(jobs) < 2:
        return [job() for job in jobs]

    def alone(job: Callable[[], Done]) -> Done:
        torch.set_num_threads(1)  # of the thread that calls it
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
    """Yield a function's results of items in order, from `workers` at once with `threads` threads of torch each.

    The next items are made meanwhile, here; at most one more than there are workers waits.
    """
    before = torch.get_num_threads()

    def run(item: Item) -> Done:
        torch.set_num_threads(threads)  # of the thread that calls it
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
