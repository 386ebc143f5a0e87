"""Embeddings of a task to its scores, by the protocol of heareval 2021.1.3: grid, selection, folds, postprocessing.

The grid is searched on the first fold; its best point by validation score is trained again on every other fold. Early
stopping, the best epoch and the postprocessing of events follow the first score of the task, or the validation loss
where the task says so.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid
from torch import Tensor

from hear_ssl.evaluate.events import EventLists, find_events
from hear_ssl.evaluate.predictor import Batch, Predictor, Settings, loss, reuse_memory
from hear_ssl.evaluate.scores import SCORES
from hear_ssl.evaluate.task import Task
from hear_ssl.evaluate.together import check_ended, together

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
FAST = OFFICIAL | {"hidden_layers": [1], "hidden_dim": [512], "lr": [1e-3], "initialization": ["xavier_uniform_"]}
# validation on a few clips of frames is too noisy to stop by: so many steps, and a learning rate that falls to zero
FAST_EVENTS = FAST | {"hidden_layers": [2], "max_epochs": [20], "annealed_steps": [600]}
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
class Fold:
    """What one fold trains on, in batches of every size asked for, what it validates and tests with."""

    batches: dict[int, list[Batch]]
    valid: Rows
    test: Rows

    @staticmethod
    def of(splits: dict[str, Rows], names: dict[str, list[str]], points: list[Settings]) -> Fold:
        """Return the fold of these splits by role."""
        train, valid, test = (Rows.joined([splits[split] for split in names[role]]) for role in ("train", "valid", "test"))
        sizes = {point.batch_size for point in points}
        return Fold({size: Batch.split(train.embeddings, train.targets, size) for size in sizes}, valid, test)


@dataclass
class Fitted:
    """A trained network: its grid point, the best check's value, epoch, state and postprocessing."""

    settings: Settings
    value: float
    epoch: int = -1
    state: list[Tensor] = field(default_factory=list)
    postprocessing: Postprocessing | None = None


def grid_points(task: Task, grid: str) -> list[Settings]:
    """Return the grid points to search, in the kit's order: the first eight of the shuffled grid.

    Raises ValueError when one ends before its first check.
    """
    quick = FAST if task.embedding_type == "scene" else FAST_EVENTS
    chosen = (quick if grid == "fast" else OFFICIAL) | (SLOW_TO_SCORE.get(task.name, {}))
    chosen = chosen | {key: value for key, value in task.parameters.get("task_specific_param_grid", {}).items() if key in chosen}
    points = [Settings(**point) for point in ParameterGrid(chosen)]
    if any(point.max_epochs < point.check_val_every_n_epoch for point in points):
        raise ValueError(
            f"max_epochs {chosen['max_epochs']} end before the first check after {chosen['check_val_every_n_epoch']}; raise them"
        )
    random.Random(SEED).shuffle(points)
    return points[:GRID_POINTS]


def points_hash(grid: str) -> str:
    """Return a hash of what a grid stands for, which may change from one version to the next."""
    content = [(FAST, FAST_EVENTS) if grid == "fast" else OFFICIAL, SLOW_TO_SCORE, GRID_POINTS, POSTPROCESSING]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def score_task(
    task: Task, splits: dict[str, Rows], grid: str, seed: int = SEED, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Return the scores of a task: mean over folds of every score (None if undefined), each fold's own, and what was chosen.

    Raises ValueError when the task's first score is undefined in every fold.
    """
    reuse_memory()
    names, points = task.folds(), grid_points(task, grid)
    undefined = [task.lacking(task.scores[0], fold["test"]) for fold in names]
    if all(undefined):
        raise ValueError(f"{task.scores[0]} is undefined: {undefined[0]} in the split {names[0]['test'][0]}; mend the task's splits")
    progress(f"fold 1 of {len(names)}, {len(points)} grid points")
    first = Fold.of(splits, names[0], points)
    unsurpassed: list[int] = []

    def search(number: int) -> Fitted:
        if any(earlier < number for earlier in unsurpassed):
            return Fitted(points[number], -math.inf)  # it could only tie, and of equals the first is chosen
        fitted = fit(task, points[number], first, seed * 1009 + number)
        if fitted.value >= highest(task):
            unsurpassed.append(number)
        return fitted

    best = max(together([partial(search, number) for number in range(len(points))]), key=lambda one: one.value)

    def other(number: int) -> tuple[Fitted, dict[str, float | None]]:
        fold = Fold.of(splits, names[number], [best.settings])
        fitted = fit(task, best.settings, fold, (seed + number) * 1009)
        return fitted, test_scores(task, fitted, fold.test)

    if len(names) > 1:
        progress(f"folds 2 to {len(names)}")
    pairs = [(best, test_scores(task, best, first.test)), *together([partial(other, number) for number in range(1, len(names))])]
    sizes = [sum(len(splits[split].clips) for split in fold["test"]) for fold in names]
    results = [
        dict[str, Any](scores) | {"validation": fitted.value, "epoch": fitted.epoch, "test_clips": clips}
        for (fitted, scores), clips in zip(pairs, sizes, strict=True)
    ]
    return {
        "primary": task.scores[0],
        "scores": {name: mean_over_folds(task, results, name) for name in task.scores},
        "deviation": {name: statistics.stdev(found) if len(found := defined(results, name)) > 1 else 0.0 for name in task.scores},
        "folds": results,
        "settings": vars(best.settings),
    }


def defined(results: list[dict[str, Any]], name: str) -> list[float]:
    """Return a score of the folds in which it is defined; the others do not count, as in the kit."""
    return [result[name] for result in results if result[name] is not None]


def mean_over_folds(task: Task, results: list[dict[str, Any]], name: str) -> float | None:
    """Return a score's mean over the folds in which it is defined, None when there is none.

    Where there were events to find and none was found in any fold, an F-measure is 0.
    """
    found = defined(results, name)
    if not found and SCORES[name].events and not all(task.lacking(name, fold["test"]) for fold in task.folds()):
        return 0.0
    return statistics.fmean(found) if found else None


def new_predictor(task: Task, dim: int, point: Settings, seed: int) -> Predictor:
    """Return an untrained network for embeddings (rows, dim) of a task."""
    return Predictor(dim, len(task.labels), point, task.prediction_type == "multilabel", seed)


def fit(task: Task, settings: Settings, fold: Fold, seed: int) -> Fitted:
    """Train a network with early stopping and return it at its best check; one whose learning rate falls is checked at its end.

    A check whose value is not finite ends it, as it does in the kit (an event predictor that finds nothing), and so does
    one that cannot be surpassed.
    """
    network = new_predictor(task, fold.valid.embeddings.shape[1], settings, seed)
    best, waited = Fitted(settings, -math.inf), 0
    batches = fold.batches[settings.batch_size]
    epochs = settings.epochs(len(batches))
    every = epochs if settings.annealed_steps else settings.check_val_every_n_epoch
    for epoch in range(epochs):
        check_ended()
        for number, batch in enumerate(batches):
            network.step(batch, (epoch + number / len(batches)) / epochs)
        if (epoch + 1) % every:
            continue
        value, postprocessing = validation_value(task, network, fold.valid)
        if value > best.value or not best.state:
            best = Fitted(settings, value, epoch, [tensor.clone() for tensor in network.state()], postprocessing)
            waited = 0
        else:
            waited += 1
        if not math.isfinite(value) or waited >= settings.patience or value >= highest(task):
            break
    return best


def highest(task: Task) -> float:
    """Return the value of a check that none can surpass."""
    if not task.stop_by_score:
        return math.inf
    score = SCORES[task.scores[0]]
    return score.best if score.maximize else -score.best


def validation_value(task: Task, network: Predictor, valid: Rows) -> tuple[float, Postprocessing | None]:
    """Return what a check maximises, -inf when undefined, and the postprocessing it was reached with."""
    choices, logits = postprocessing_choices(task), network.predict(valid.embeddings)
    if not task.stop_by_score:
        return -float(loss(logits, valid.targets, network.multilabel)), choices[-1]
    name = task.scores[0]
    sign = 1.0 if SCORES[name].maximize else -1.0
    if task.embedding_type == "scene":
        value = SCORES[name].compute(probabilities(task, logits), valid.targets.numpy())
        return (sign * value if math.isfinite(value) else -math.inf), None
    values = [SCORES[name].compute(events_of(task, logits, valid, choice), valid.events) for choice in choices]
    ranks = [(0.0 if math.isnan(value) else value, *choice.values()) for value, choice in zip(values, choices, strict=True)]
    place = ranks.index(max(ranks))  # the kit takes the highest score here even where lower is better, of equals the highest parameters
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


def test_scores(task: Task, fitted: Fitted, test: Rows) -> dict[str, float | None]:
    """Return every score of the task on the test rows, None where it is undefined."""
    network = new_predictor(task, test.embeddings.shape[1], fitted.settings, 0)
    network.copy_from(fitted.state)
    logits = network.predict(test.embeddings)
    if task.embedding_type == "scene":
        predictions: Any = probabilities(task, logits)
        targets: Any = test.targets.numpy()
    else:
        assert fitted.postprocessing is not None
        predictions, targets = events_of(task, logits, test, fitted.postprocessing), test.events
    values = {name: SCORES[name].compute(predictions, targets) for name in task.scores}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
