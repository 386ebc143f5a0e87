"""A score that the test clips cannot define is named, never taken for 0; where less is better, the least is the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.model_selection import ParameterGrid

from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.protocol.predictor import PredictorSettings
from hear_ssl.evaluation.protocol.score_task import new_predictor, score_task, validation_value
from hear_ssl.evaluation.report.score_table import score_table
from hear_ssl.evaluation.run import evaluate, table
from hear_ssl.evaluation.tasks.task_format import read_task
from tests.evaluation.test_evaluate import QUICK, change, log_mel, make_event, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a task whose test split lacks one label."""
    folder = make_scene(tmp_path_factory.mktemp("tasks") / "scene", multilabel=True)
    index = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps({file: [labels[0]] for file, labels in index.items()}))
    return folder


@pytest.mark.parametrize("score", ["aucroc", "d_prime"])
def test_a_label_that_no_test_clip_has_is_named(scene: Path, tmp_path: Path, score: str) -> None:
    change(scene, evaluation=[score])
    faults = evaluate([log_mel()], [scene], tmp_path, "fast", 1, show=False)["faults"]
    assert faults["scene"]["log-mel"].startswith(f"{score} is undefined: no clip has the label 'even' in the split test")
    change(scene, evaluation=["mAP", score])
    result = evaluate([log_mel()], [scene], tmp_path / "second", "fast", 2, show=False)["tasks"]["scene"]["log-mel"]
    assert result["scores"][score] is None
    assert result["score"] > 0.5


def test_an_error_rate_without_events_is_named_and_an_f_measure_of_nothing_found_is_0(tmp_path: Path) -> None:
    folder = make_event(tmp_path / "event")
    change(folder, evaluation=["segment_1s_er", "event_onset_200ms_fms"], evaluation_params=QUICK | {"event_postprocessing_grid": NONE})
    task = read_task(folder)
    rows = task_rows(task, log_mel(), tmp_path)
    assert score_task(task, rows, "fast")["scores"] == {"segment_1s_er": 1.0, "event_onset_200ms_fms": 0.0}
    index = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps({file: [] for file in index}))
    task = read_task(folder)
    with pytest.raises(ValueError, match="segment_1s_er is undefined: no clip has an event in the split test"):
        score_task(task, task_rows(task, log_mel(), tmp_path), "fast")


def test_of_postprocessings_that_score_alike_the_kits_is_chosen_in_whatever_order_they_are_listed(tmp_path: Path) -> None:
    folder, grid = make_event(tmp_path / "event"), {"min_duration": [200000, 100000], "median_filter_ms": [50, 250]}
    change(folder, evaluation_params={"event_postprocessing_grid": grid})
    task = read_task(folder)
    valid = task_rows(task, log_mel(), tmp_path)["valid"]
    network = new_predictor(task, valid.embeddings.shape[1], PredictorSettings(1, 8), seed=0)
    ties = [(0.0, tuple(choice.items())) for choice in ParameterGrid(grid)]  # no event lasts that long
    ties.sort(reverse=True)  # as heareval 2021.1.3 does, EventPredictionModel._score_epoch_end
    assert validation_value(task, network, valid)[1] == dict(ties[0][1]) == {"median_filter_ms": 250, "min_duration": 200000}


NONE = {"median_filter_ms": [250], "min_duration": [100000]}  # no event lasts that long


def test_the_least_error_is_the_best_and_no_part_of_the_mean() -> None:
    def result(primary: str, score: float) -> dict[str, object]:
        return {"primary": primary, "score": score, "seed_deviation": 0.0, "folds": [{primary: score}]}

    tasks = {
        "errors": {"ours": result("segment_1s_er", 0.25), "log-mel": result("segment_1s_er", 0.75)},
        "clips": {"ours": result("mAP", 0.5), "log-mel": result("mAP", 0.375)},
    }
    record = {"tasks": tasks, "faults": {}}
    page = score_table(record, "ours")
    assert "<b>0.250</b>" in page
    assert "0.750</b>" not in page
    assert "<th>mean of 1</th><td>0.500</td><td>0.375</td>" in page
    assert table(record, ["ours", "log-mel"]).splitlines()[-1].split() == ["mean", "of", "1", "task", "0.500", "0.375"]
