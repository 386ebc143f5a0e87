"""An evaluation that was interrupted resumes after the last network that it trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.evaluation.protocol import grid
from hear_ssl.evaluation.protocol import score_task as protocol
from hear_ssl.evaluation.protocol.predictor_cache import PredictorCache, Trained
from hear_ssl.evaluation.run import evaluate
from tests.evaluation.test_evaluate import log_mel, make_scene

RESULT: Trained = {"validation": -float("inf"), "epoch": 2, "scores": {"mAP": 0.1 + 0.2, "d_prime": None}}


def test_an_interrupted_evaluation_goes_on_behind_its_last_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_scene(tmp_path / "folds", multilabel=True, folds=True, evaluation=["mAP", "d_prime"])
    monkeypatch.setattr(grid, "GRID_POINTS", 3)
    trained: list[int] = []
    stop_before = [0]
    whole = protocol.train_predictor

    def train_predictor(task: Any, settings: Any, fold: Any, seed: int) -> Any:
        if len(trained) + 1 == stop_before[0]:
            raise KeyboardInterrupt
        trained.append(seed)
        return whole(task, settings, fold, seed)

    def scores(out: str) -> Any:
        return evaluate([log_mel()], [task], tmp_path / out, "official", 2, show=False)["tasks"]["folds"]["log-mel"]["scores"]

    expected = scores("whole")
    monkeypatch.setattr(protocol, "train_predictor", train_predictor)
    monkeypatch.setattr("hear_ssl.evaluation.protocol.parallel.torch.get_num_threads", lambda: 1)
    for stop in (3, 5, 8):  # in the search, in the folds, in the second seed
        stop_before[0] = stop
        with pytest.raises(KeyboardInterrupt):
            scores("out")
        assert len(trained) == stop - 1
    stop_before[0] = 0
    assert scores("out") == expected
    assert len(trained) == 2 * (3 + 2)
    assert not list((tmp_path / "out" / "networks").iterdir())


def test_a_fault_after_some_networks_loses_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_scene(tmp_path / "folds", multilabel=True, folds=True, evaluation=["mAP"])
    monkeypatch.setattr(grid, "GRID_POINTS", 3)
    monkeypatch.setattr("hear_ssl.evaluation.protocol.parallel.torch.get_num_threads", lambda: 1)
    trained: list[int] = []
    whole = protocol.train_predictor

    def train_predictor(task: Any, settings: Any, fold: Any, seed: int) -> Any:
        trained.append(seed)
        if len(trained) == 3:
            raise MemoryError
        return whole(task, settings, fold, seed)

    monkeypatch.setattr(protocol, "train_predictor", train_predictor)
    first = evaluate([log_mel()], [task], tmp_path / "out", "official", 1, show=False)
    assert first["faults"]["folds"]["log-mel"] == "out of memory; close other programs"
    second = evaluate([log_mel()], [task], tmp_path / "out", "official", 1, show=False)
    assert "log-mel" in second["tasks"]["folds"]
    assert len(trained) == 1 + 3 + 2
    assert not list((tmp_path / "out" / "networks").iterdir())


def test_results_are_the_same_when_read_again(tmp_path: Path) -> None:
    path = tmp_path / "networks.json"
    assert PredictorCache(path).result({"lr": 1e-3}, 0, 42, lambda: RESULT) == RESULT
    assert PredictorCache(path).result({"lr": 1e-3}, 0, 42, lambda: pytest.fail("trained again")) == RESULT
    other: Trained = {**RESULT, "epoch": 5}
    assert [PredictorCache(path).result({"lr": 1e-3}, fold, seed, lambda: other) for fold, seed in ((1, 42), (0, 43))] == [other, other]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '{"a": {"epoch": 1}}', json.dumps({"a": RESULT})[:-2], "\xff"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "networks.json"
    path.write_bytes(content.encode("latin-1"))
    assert PredictorCache(path).results == {}
