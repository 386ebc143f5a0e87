"""Jobs run in parallel, and end soon when nobody waits for them any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest, from_checkpoint
from hear_ssl.evaluation.protocol import embed
from hear_ssl.evaluation.protocol.parallel import check_ended, map_ahead, run_parallel
from hear_ssl.evaluation.tasks.task_format import read_task
from hear_ssl.training.trainer import fit
from tests.conftest import tiny
from tests.evaluation.test_evaluate import make_event, make_scene


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


def test_results_come_in_order_from_jobs_that_run_at_once_and_only_a_few_items_wait() -> None:
    both, made = threading.Barrier(2, timeout=10.0), []

    def items() -> Iterator[int]:
        for item in range(8):
            made.append(item)
            yield item

    def double(item: int) -> int:
        both.wait()  # fails unless two run at once
        assert torch.get_num_threads() == 1
        return 2 * item

    before = torch.get_num_threads()
    results = map_ahead(double, items(), 2, 1)
    for expected in range(8):
        assert next(results) == 2 * expected
        assert len(made) <= expected + 3
    assert list(results) == []
    assert torch.get_num_threads() == before

    def fail(item: int) -> int:
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(map_ahead(fail, items(), 2, 1))


def test_several_threads_embed_to_the_same_bits(shards: Path, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "BATCH_SECONDS", 2.0)
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    for make in (make_scene, make_event):
        task, found = read_task(make(tmp_path / make.__name__)), []
        for threads in (1, 2):
            model = from_checkpoint(tmp_path / "run")
            assert model.threadsafe
            torch.set_num_threads(threads)
            found.append(embed.task_rows(task, model, tmp_path / f"{make.__name__}-{threads}"))
        for split in task.splits:
            assert torch.equal(found[0][split].embeddings, found[1][split].embeddings)


@pytest.mark.parametrize("threadsafe", [False, True])
def test_a_foreign_module_is_called_by_one_thread_at_a_time(
    tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch, threadsafe: bool
) -> None:
    monkeypatch.setattr(embed, "BATCH_SECONDS", 2.0)
    most, present, lock = [0], [0], threading.Lock()

    class Module:
        @staticmethod
        def get_scene_embeddings(audio: Tensor, model: Any) -> Tensor:
            with lock:
                present[0] += 1
                most[0] = max(most[0], present[0])
            time.sleep(0.05)
            with lock:
                present[0] -= 1
            return baselines.get_scene_embeddings(audio, model)

    model = ModelUnderTest("foreign", "foreign", Module, baselines.load_model(), threadsafe=threadsafe)
    embed.task_rows(read_task(make_scene(tmp_path / "scene")), model, tmp_path / "cache")
    assert most[0] == (2 if threadsafe else 1)
