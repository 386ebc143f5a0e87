"""Jobs side by side, a thread of torch each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Done = TypeVar("Done")


def together(jobs: list[Callable[[], Done]]) -> list[Done]:
    """Return the results of jobs in order, run as many at once as torch has threads.

    One thread a network uses several cores better than several threads a product; results do not depend on how many.
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
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
