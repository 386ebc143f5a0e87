"""Embeddings of a task to its scores, by the protocol of heareval 2021.1.3: grid, selection, folds, postprocessing.

The grid is searched on the first fold; its best point by validation score is trained again on every other fold. Early
stopping, the best epoch and the postprocessing of events follow the first score of the task, or the validation loss
where the task says so. Grid points of one depth train side by side in one stack.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid
from torch import Tensor

from hear_ssl.evaluate.events import EventLists, find_events
from hear_ssl.evaluate.predictor import Settings, Stack
from hear_ssl.evaluate.scores import SCORES
from hear_ssl.evaluate.task import Task

GRID_POINTS = 8
SEED = 42
OFFICIAL: dict[str, list[Any]] = {
    "hidden_layers": [1, 2],
    "hidden_dim": [1024],
    "dropout": [0.1],
    "lr": [3.2e-3, 1e-3, 3.2e-4, 1e-4],
    "patience": [20],
    "max_epochs": [500],
    "check_val_every_n_epoch": [3],
    "batch_size": [1024],
    "initialization": ["xavier_uniform_", "xavier_normal_"],
}
FAST = OFFICIAL | {"hidden_layers": [1], "lr": [1e-3, 3.2e-4], "patience": [5], "initialization": ["xavier_uniform_"]}
GRIDS = {"official": OFFICIAL, "fast": FAST}
SLOW_TO_SCORE = {"dcase2016_task2": {"check_val_every_n_epoch": [10]}}
POSTPROCESSING = {"median_filter_ms": [250], "min_duration": [125, 250]}
Postprocessing = dict[str, float]


@dataclass
class Rows:
    """Embeddings (rows, dim) and multi-hot targets (rows, labels) of some splits, in the kit's order.

    For event tasks rows are frames: clips holds each clip's file and its slice of rows, timestamps_ms (rows,) their times,
    events the true events.
    """

    embeddings: Tensor
    targets: Tensor
    clips: list[tuple[str, slice]]
    timestamps_ms: NDArray[Any]
    events: EventLists

    @staticmethod
    def joined(parts: list[Rows]) -> Rows:
        """Return the rows of several splits, one after the other."""
        if len(parts) == 1:
            return parts[0]
        clips, start = [], 0
        for part in parts:
            clips += [(file, slice(place.start + start, place.stop + start)) for file, place in part.clips]
            start += len(part.embeddings)
        return Rows(
            torch.cat([part.embeddings for part in parts]),
            torch.cat([part.targets for part in parts]),
            clips,
            np.concatenate([part.timestamps_ms for part in parts]),
            {file: events for part in parts for file, events in part.events.items()},
        )


@dataclass
class Fitted:
    """A trained member: its grid point, the best check's value, epoch, state and postprocessing."""

    settings: Settings
    value: float
    epoch: int = -1
    state: list[Tensor] | None = None
    postprocessing: Postprocessing | None = None
    waited: int = 0


def grid_points(task: Task, grid: str) -> list[Settings]:
    """Return the grid points to search, in the kit's order: the first eight of the shuffled grid."""
    chosen = GRIDS[grid] | (SLOW_TO_SCORE.get(task.name, {}))
    chosen = chosen | {key: value for key, value in task.parameters.get("task_specific_param_grid", {}).items() if key in chosen}
    points = [Settings(**point) for point in ParameterGrid(chosen)]
    random.Random(SEED).shuffle(points)
    return points[:GRID_POINTS]


def score_task(
    task: Task, splits: dict[str, Rows], grid: str, seed: int = SEED, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Return the scores of a task: mean over folds of every score, each fold's own, and what was chosen."""
    folds = task.folds()
    results, best = [], None
    for number, fold in enumerate(folds):
        parts = {role: Rows.joined([splits[split] for split in names]) for role, names in fold.items()}
        points = grid_points(task, grid) if best is None else [best]
        progress(f"fold {number + 1} of {len(folds)}, {len(points)} grid point{'s' if len(points) > 1 else ''}")
        fitted = max(fit_all(task, points, parts["train"], parts["valid"], seed + number), key=lambda one: one.value)
        best = fitted.settings
        results.append(test_scores(task, fitted, parts["test"]) | {"validation": fitted.value, "epoch": fitted.epoch})
    assert best is not None
    return {
        "primary": task.scores[0],
        "scores": {name: statistics.fmean(result[name] for result in results) for name in task.scores},
        "deviation": {name: statistics.stdev(r[name] for r in results) if len(results) > 1 else 0.0 for name in task.scores},
        "folds": results,
        "settings": vars(best),
    }


def fit_all(task: Task, points: list[Settings], train: Rows, valid: Rows, seed: int) -> list[Fitted]:
    """Train every grid point, those of one shape side by side, and return them in the order given."""
    order: dict[tuple[Any, ...], list[int]] = {}
    for place, point in enumerate(points):
        order.setdefault(point.shape(), []).append(place)
    fitted: dict[int, Fitted] = {}
    for number, places in enumerate(order.values()):
        generator = torch.Generator().manual_seed(seed * 1009 + number)
        torch.manual_seed(seed * 1013 + number)  # dropout draws from the global generator
        multilabel = task.prediction_type == "multilabel"
        group = [points[place] for place in places]
        stack = Stack(train.embeddings.shape[1], len(task.labels), group, multilabel, generator)
        fitted.update(zip(places, fit_stack(task, stack, train, valid), strict=True))
    return [fitted[place] for place in range(len(points))]


def fit_stack(task: Task, stack: Stack, train: Rows, valid: Rows) -> list[Fitted]:
    """Train a stack with early stopping and return each member at its best check.

    A check whose value is not finite ends the member, as it does in the kit (an event predictor that finds nothing).
    """
    shared = stack.settings[0]
    members = [Fitted(settings, -math.inf) for settings in stack.settings]
    active = list(members)
    for epoch in range(shared.max_epochs):
        for start in range(0, len(train.embeddings), shared.batch_size):
            rows = slice(start, start + shared.batch_size)
            stack.train_batch(train.embeddings[rows], train.targets[rows])
        if (epoch + 1) % shared.check_val_every_n_epoch:
            continue
        logits = stack.predict(valid.embeddings)
        staying = []
        for place, member in enumerate(active):
            value, postprocessing = validation_value(task, stack, logits[place], valid)
            better = value > member.value
            if better or member.state is None:
                waited = 0
                fresh = Fitted(member.settings, value, epoch, stack.state(place), postprocessing, waited)
                members[members.index(member)] = active[place] = fresh
            else:
                member.waited += 1
            if math.isfinite(value) and active[place].waited < shared.patience:
                staying.append(place)
        if not staying:
            break
        if len(staying) < len(active):
            stack.keep(staying)
            active = [active[place] for place in staying]
    return members


def validation_value(task: Task, stack: Stack, logits: Tensor, valid: Rows) -> tuple[float, Postprocessing | None]:
    """Return what a check maximises, -inf when undefined, and the postprocessing it was reached with."""
    choices = postprocessing_choices(task)
    if not task.stop_by_score:
        return -float(stack.loss(logits.unsqueeze(0), valid.targets)[0]), choices[-1]
    name = task.scores[0]
    sign = 1.0 if SCORES[name].maximize else -1.0
    if task.embedding_type == "scene":
        value = SCORES[name].compute(probabilities(task, logits), valid.targets.numpy())
        return (sign * value if math.isfinite(value) else -math.inf), None
    values = [SCORES[name].compute(events_of(task, logits, valid, choice), valid.events) for choice in choices]
    ranked = [(0.0 if math.isnan(value) else value, place) for place, value in enumerate(values)]
    place = max(ranked)[1]  # the kit takes the highest score here even where lower is better, the last choice on a tie
    return (sign * values[place] if math.isfinite(values[place]) else -math.inf), choices[place]


def postprocessing_choices(task: Task) -> list[Postprocessing]:
    """Return the ways to turn frames into events that validation chooses from."""
    return list(ParameterGrid(task.parameters.get("event_postprocessing_grid", POSTPROCESSING)))


def probabilities(task: Task, logits: Tensor) -> NDArray[Any]:
    """Return probabilities (rows, labels) of logits (rows, labels)."""
    result = logits.sigmoid() if task.prediction_type == "multilabel" else logits.softmax(-1)
    return np.asarray(result.numpy())


def events_of(task: Task, logits: Tensor, rows: Rows, postprocessing: Postprocessing) -> EventLists:
    """Return the predicted events of every clip."""
    frames = probabilities(task, logits)
    return {file: find_events(frames[place], rows.timestamps_ms[place], task.labels, **postprocessing) for file, place in rows.clips}


def test_scores(task: Task, fitted: Fitted, test: Rows) -> dict[str, float]:
    """Return every score of the task on the test rows; a score that is undefined there counts 0."""
    assert fitted.state is not None
    stack = Stack(
        test.embeddings.shape[1],
        len(task.labels),
        [replace(fitted.settings)],
        task.prediction_type == "multilabel",
        torch.Generator().manual_seed(0),
    )
    stack.load(0, fitted.state)
    logits = stack.predict(test.embeddings)[0]
    if task.embedding_type == "scene":
        predictions: Any = probabilities(task, logits)
        targets: Any = test.targets.numpy()
    else:
        assert fitted.postprocessing is not None
        predictions, targets = events_of(task, logits, test, fitted.postprocessing), test.events
    values = {name: SCORES[name].compute(predictions, targets) for name in task.scores}
    return {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}
