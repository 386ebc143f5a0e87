"""Jobs run side by side, and end soon when nobody waits for them any more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from hear_ssl.evaluation.protocol.parallel import check_ended, run_parallel


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_ctrl_c_ends_the_jobs_that_run(two_threads: None) -> None:
    def long() -> None:
        for _ in range(600):
            check_ended()
            time.sleep(0.05)

    def interrupted() -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_parallel([interrupted, long, long])
    assert time.monotonic() - start < 10
    assert run_parallel([check_ended, check_ended]) == [None, None]
