"""A worker that hangs ends the run by name; one that is only slow, or waits for a shard, does not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import IterableDataset

from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.forkserver import worker_context
from hear_ssl.data.stream.worker_watch import STOP_SECONDS, Patience, WorkerError
from hear_ssl.data.stream.workers import WorkerLoader, start_worker

ENDLESS = 1000.0


class Pausing(IterableDataset[Batch]):
    """Three batches, each after a pause in seconds."""

    def __init__(self, *pauses: float) -> None:
        self.pauses = pauses

    def __iter__(self) -> Iterator[Batch]:
        for pause in self.pauses:
            time.sleep(pause)
            yield Batch(torch.zeros(1, 1, 8), torch.zeros(1), ["a"])


def loader(data: Pausing, patience: Patience) -> WorkerLoader:
    context = worker_context()
    return WorkerLoader(
        data, patience=patience, batch_size=None, num_workers=1, multiprocessing_context=context, worker_init_fn=start_worker
    )


@pytest.mark.slow
def test_a_worker_that_hangs_is_named() -> None:
    batches = iter(loader(Pausing(0.0, ENDLESS), Patience(2.0)))
    next(batches)
    start = time.monotonic()
    with pytest.raises(WorkerError, match=r"decoding worker 0 \(process \d+\) hangs: .* with a higher data.worker_timeout"):
        next(batches)
    assert 2.0 <= time.monotonic() - start < 20


@pytest.mark.slow
def test_a_slow_worker_and_one_that_fetches_are_left_alone() -> None:
    assert len(list(loader(Pausing(0.0, 1.0, 1.0), Patience(4.0)))) == 3
    ticks = itertools.count()
    assert len(list(loader(Pausing(0.0, 3.0), Patience(1.0, activity=lambda: next(ticks))))) == 2
    assert len(list(loader(Pausing(0.0, 3.0), Patience(0.0)))) == 2


@pytest.mark.slow
def test_a_run_that_is_to_end_does_not_wait_for_a_worker_that_hangs() -> None:
    batches = iter(loader(Pausing(0.0, ENDLESS), Patience(600.0, stopping=lambda: True)))
    next(batches)
    start = time.monotonic()
    assert list(batches) == []
    assert STOP_SECONDS <= time.monotonic() - start < STOP_SECONDS + 20
