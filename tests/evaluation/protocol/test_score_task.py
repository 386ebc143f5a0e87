"""The whole protocol against a plain one: heareval's steps in torch.nn, scipy, sklearn and sed_eval, in float64.

Both sides start every network from the same weights and drop the same units, so that no seed stands between them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sed_eval
import torch
from scipy.ndimage import median_filter
from sklearn.metrics import average_precision_score
from sklearn.model_selection import ParameterGrid

from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.protocol.events import EventLists
from hear_ssl.evaluation.protocol.grid import SEED, grid_points
from hear_ssl.evaluation.protocol.predictor import Predictor, PredictorSettings
from hear_ssl.evaluation.protocol.score_task import LabelledRows, score_task
from hear_ssl.evaluation.tasks.task_format import Task, read_task
from tests.evaluation.protocol.test_events import reference
from tests.evaluation.test_evaluate import log_mel, make_event, make_scene

GRID = {"max_epochs": [60], "hidden_dim": [32], "patience": [4], "batch_size": [16]}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, parameters = tmp_path_factory.mktemp("tasks"), {"task_specific_param_grid": GRID}
    make_scene(folder / "scene", evaluation_params=parameters)
    make_scene(folder / "folds", True, True, evaluation=["mAP"], evaluation_params=parameters)
    make_scene(folder / "loss", evaluation_params=parameters, use_scoring_for_early_stopping=False)
    make_event(folder / "event")
    return folder


class Dropout(torch.nn.Module):
    """Dropout that falls where ours does."""

    def __init__(self, network: Predictor) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * self.network.kept(len(rows)) / (1.0 - self.network.settings.dropout) if self.training else rows


def network_of(drawn: Predictor) -> torch.nn.Sequential:
    """Return the kit's network with weights as drawn."""
    modules: list[torch.nn.Module] = []
    for weight, bias in [*((layer.weight, layer.bias) for layer in drawn.hidden), (drawn.weight, drawn.bias)]:
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(weight.t())
            linear.bias.copy_(bias)
        modules += [linear, torch.nn.BatchNorm1d(weight.shape[1]), Dropout(drawn), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-3])


def events_in(task: Task, frames: np.ndarray[Any, Any], rows: LabelledRows, median_filter_ms: float, min_duration: float) -> EventLists:
    """Return runs of frames above 0.5 after scipy's median filter, frame by frame."""
    found: EventLists = {}
    for file, place in rows.clips:
        times = rows.timestamps_ms[place]
        size = round(median_filter_ms / np.mean(np.diff(times)))
        active = median_filter(frames[place], size=(size, 1)) > 0.5
        found[file] = []
        for number, label in enumerate(task.labels):
            start = None
            for frame in range(len(times) + 1):
                if frame < len(times) and active[frame, number]:
                    start = frame if start is None else start
                elif start is not None:
                    if times[frame - 1] - times[start] >= min_duration:
                        found[file].append((label, float(times[start]), float(times[frame - 1])))
                    start = None
    return found


def onset_score(task: Task, found: EventLists, rows: LabelledRows) -> float:
    metric = sed_eval.sound_event.EventBasedMetrics(list(task.labels), t_collar=0.2, evaluate_offset=False)
    return float(reference(metric, found, rows.events)["f_measure"]["f_measure"])


def scored(task: Task, logits: torch.Tensor, rows: LabelledRows, chosen: dict[str, float] | None) -> tuple[float, dict[str, float] | None]:
    """Return the primary score and the postprocessing it was reached with: the one given, else the best."""
    if task.embedding_type == "event":
        choices = [chosen] if chosen else list(ParameterGrid({"median_filter_ms": [250], "min_duration": [125, 250]}))
        values = [onset_score(task, events_in(task, logits.sigmoid().numpy(), rows, **choice), rows) for choice in choices]
        place = max(range(len(values)), key=lambda place: (0.0 if math.isnan(values[place]) else values[place], place))
        return values[place], choices[place]
    if task.prediction_type == "multilabel":
        return float(average_precision_score(rows.targets.numpy(), logits.sigmoid().numpy(), average="macro")), None
    pairs = zip(logits.softmax(1), rows.targets, strict=True)
    return sum(int(row.argmax()) == int(target.argmax()) for row, target in pairs) / len(logits), None


def fitted(
    task: Task, settings: PredictorSettings, splits: dict[str, LabelledRows], names: dict[str, list[str]], seed: int
) -> dict[str, Any]:
    """Return the best value of a check, its epoch, and the test score of the network there."""
    train, valid, test = (LabelledRows.joined([splits[split] for split in names[role]]) for role in ("train", "valid", "test"))
    multilabel = task.prediction_type == "multilabel"
    network = network_of(Predictor(train.embeddings.shape[1], len(task.labels), settings, multilabel, seed))
    compute = torch.nn.BCEWithLogitsLoss() if multilabel else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    best: dict[str, Any] = {"value": -math.inf}
    waited = 0
    for epoch in range(settings.max_epochs):
        network.train()
        for rows, targets in zip(train.embeddings.split(settings.batch_size), train.targets.split(settings.batch_size), strict=True):
            optimizer.zero_grad()
            compute(network(rows), targets if multilabel else targets.argmax(1)).backward()
            optimizer.step()
        if (epoch + 1) % 3:
            continue
        network.eval()
        with torch.no_grad():
            logits = network(valid.embeddings)
            value, choice = scored(task, logits, valid, None)
            if not task.stop_by_score:
                value = -float(compute(logits, valid.targets.argmax(1)))
            if not math.isfinite(value):
                break
            waited += 1
            if value > best["value"]:
                score, _ = scored(task, network(test.embeddings), test, choice)
                best, waited = {"settings": settings, "value": value, "epoch": epoch, "score": score}, 0
        if waited >= settings.patience:
            break
    return best


@pytest.mark.parametrize("name", ["scene", *(pytest.param(name, marks=pytest.mark.slow) for name in ("folds", "loss", "event"))])
def test_scores_are_those_of_a_plain_protocol(tasks: Path, tmp_path: Path, exact: None, name: str) -> None:
    task = replace(
        read_task(tasks / name), parameters={"task_specific_param_grid": GRID if name != "event" else GRID | {"batch_size": [64]}}
    )
    splits = task_rows(task, log_mel(), tmp_path)
    for rows in splits.values():
        rows.embeddings, rows.targets = rows.embeddings.double(), rows.targets.double()
    folds, points = task.folds(), grid_points(task, "official")
    searched = [fitted(task, point, splits, folds[0], SEED * 1009 + number) for number, point in enumerate(points)]
    best = sorted(searched, key=lambda one: one["value"], reverse=True)[0]
    chosen = best["settings"]
    results = [best, *(fitted(task, chosen, splits, folds[fold], (SEED + fold) * 1009) for fold in range(1, len(folds)))]
    found = score_task(task, splits, "official")
    assert found["settings"] == vars(chosen)
    assert [fold["epoch"] for fold in found["folds"]] == [one["epoch"] for one in results]
    assert [fold["validation"] for fold in found["folds"]] == pytest.approx([one["value"] for one in results], abs=1e-9)
    assert [fold[task.scores[0]] for fold in found["folds"]] == pytest.approx([one["score"] for one in results], abs=1e-9)
