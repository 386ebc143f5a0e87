"""Several processes: results in order, a bounded number under way, and a process that dies is one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count, islice

import pytest

from hear_ssl.data.ordered_pool import in_order


def doubled_or_dead(number: int) -> int:
    """Return twice the number; 13 kills the process."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_results_come_in_order_with_few_jobs_taken_ahead() -> None:
    taken = []

    def jobs() -> Iterator[int]:
        for number in count(20):
            taken.append(number)
            yield number

    assert list(islice(in_order(doubled_or_dead, jobs(), 2), 30)) == [2 * number for number in range(20, 50)]
    assert len(taken) <= 30 + 4 * 2


def test_a_process_that_is_killed_ends_the_work_in_one_line() -> None:
    with pytest.raises(OSError, match=r"^a worker process died .* with fewer --workers$"):
        list(in_order(doubled_or_dead, range(40), 2))
