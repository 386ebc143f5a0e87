"""Score the embeddings of a task by the protocol of heareval 2021.1.3: grid, selection, folds, postprocessing.

The grid is searched on the first fold; its best point by validation score is trained again on every other fold. Early stopping, the best
epoch and the postprocessing of events are chosen by the first score of the task, or by the validation loss if the task requires it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_ssl.evaluation.protocol.events import EventLists, find_events
from hear_ssl.evaluation.protocol.grid import SEED, Postprocessing, grid_points, postprocessing_choices
from hear_ssl.evaluation.protocol.parallel import check_ended, run_parallel
from hear_ssl.evaluation.protocol.predictor import Predictor, PredictorSettings, RowBatch, loss, reuse_memory, span
from hear_ssl.evaluation.protocol.predictor_cache import PredictorCache, Trained
from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.tasks.task_format import Task


@dataclass
class LabelledRows:
    """Embeddings (rows, dim) and multi-hot targets (rows, labels) of some splits, in the order of the kit.

    For event tasks rows are frames. clips: each clip's file and its slice of rows. timestamps_ms: times of the rows (rows,). events: the
    true events.
    """

    embeddings: Tensor
    targets: Tensor
    clips: list[tuple[str, slice]]
    timestamps_ms: NDArray[Any]
    events: EventLists

    @staticmethod
    def joined(parts: list[LabelledRows]) -> LabelledRows:
        """Return the concatenated rows of several splits."""
        if len(parts) == 1:
            return parts[0]
        clips, start = [], 0
        for part in parts:
            clips += [(file, slice(place.start + start, place.stop + start)) for file, place in part.clips]
            start += len(part.embeddings)
        return LabelledRows(
            torch.cat([part.embeddings for part in parts]),
            torch.cat([part.targets for part in parts]),
            clips,
            np.concatenate([part.timestamps_ms for part in parts]),
            {file: events for part in parts for file, events in part.events.items()},
        )


@dataclass
class Fold:
    """Training rows of one fold in batches of every required size, validation rows and test rows."""

    batches: dict[int, list[RowBatch]]
    valid: LabelledRows
    test: LabelledRows

    @staticmethod
    def of(splits: dict[str, LabelledRows], names: dict[str, list[str]], points: list[PredictorSettings]) -> Fold:
        """Return the fold with these splits for training, validation and test."""
        train, valid, test = (LabelledRows.joined([splits[split] for split in names[role]]) for role in ("train", "valid", "test"))
        sizes = {point.batch_size for point in points}
        return Fold({size: RowBatch.split(train.embeddings, train.targets, size) for size in sizes}, valid, test)

    def in_span(self, size: int, seed: int) -> Fold:
        """Return the fold in batches of `size`, in a basis of the span of its training rows if that has fewer dimensions."""
        batches = self.batches[size]
        if not 0 < sum(len(batch.rows) for batch in batches) < self.valid.embeddings.shape[1]:
            return self
        rows, targets = torch.cat([batch.rows for batch in batches]), torch.cat([batch.targets for batch in batches])
        basis = span(rows, seed)
        valid, test = (replace(part, embeddings=part.embeddings @ basis) for part in (self.valid, self.test))
        return Fold({size: RowBatch.split(rows @ basis, targets, size)}, valid, test)


@dataclass
class Fitted:
    """A trained network: its grid point, and value, epoch, state and postprocessing of the best check."""

    settings: PredictorSettings
    value: float
    epoch: int = -1
    state: list[Tensor] = field(default_factory=list)
    postprocessing: Postprocessing | None = None


def score_task(
    task: Task,
    splits: dict[str, LabelledRows],
    grid: str,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda line: None,
    networks: PredictorCache | None = None,
) -> dict[str, Any]:
    """Return the scores of a task: the mean of every score over folds (None if undefined), those of each fold, and the chosen point.

    Networks whose results are in `networks` are not trained again. Raises ValueError when the task's first score is undefined in every
    fold.
    """
    reuse_memory()
    names, points, networks = task.folds(), grid_points(task, grid), networks or PredictorCache()
    undefined = [task.lacking(task.scores[0], fold["test"]) for fold in names]
    if all(undefined):
        raise ValueError(f"{task.scores[0]} is undefined: {undefined[0]} in the split {names[0]['test'][0]}; mend the task's splits")
    first = Fold.of(splits, names[0], points)
    unsurpassed: list[int] = []

    def search(number: int) -> Trained:
        if any(earlier < number for earlier in unsurpassed):
            return {"validation": -math.inf, "epoch": -1, "scores": {}}  # it can at best be equal, and the first of equals is chosen
        of_point = seed * 1009 + number
        found = networks.result(vars(points[number]), 0, of_point, lambda: train_and_test(task, points[number], first, of_point))
        if found["validation"] >= highest(task):
            unsurpassed.append(number)
        return found

    searched = counted([partial(search, number) for number in range(len(points))], f"fold 1 of {len(names)}", progress)
    best = max(range(len(points)), key=lambda number: searched[number]["validation"])
    chosen = points[best]

    def other(number: int) -> Trained:
        of_fold = (seed + number) * 1009
        return networks.result(
            vars(chosen), number, of_fold, lambda: train_and_test(task, chosen, Fold.of(splits, names[number], [chosen]), of_fold)
        )

    others = counted([partial(other, number) for number in range(1, len(names))], f"folds 2 to {len(names)}", progress)
    sizes = [sum(len(splits[split].clips) for split in fold["test"]) for fold in names]
    return summary(task, [searched[best], *others], sizes) | {"settings": vars(chosen)}


def summary(task: Task, trained: list[Trained], sizes: list[int]) -> dict[str, Any]:
    """Return the scores of a task from one network per fold; `sizes` are the numbers of test clips."""
    results = [
        dict[str, Any](one["scores"]) | {"validation": one["validation"], "epoch": one["epoch"], "test_clips": clips}
        for one, clips in zip(trained, sizes, strict=True)
    ]
    return {
        "primary": task.scores[0],
        "scores": {name: mean_over_folds(task, results, name) for name in task.scores},
        "deviation": {name: statistics.stdev(found) if len(found := defined(results, name)) > 1 else 0.0 for name in task.scores},
        "folds": results,
    }


def counted(jobs: list[Callable[[], Trained]], what: str, progress: Callable[[str], None]) -> list[Trained]:
    """Return the results of networks trained in parallel, and report the number of finished ones."""
    done: list[int] = []

    def run(job: Callable[[], Trained]) -> Trained:
        progress(f"{what}: {len(done)} of {len(jobs)} networks")
        result = job()
        done.append(1)
        return result

    return run_parallel([partial(run, job) for job in jobs])


def train_and_test(task: Task, settings: PredictorSettings, fold: Fold, seed: int) -> Trained:
    """Train a network and return its result."""
    fold = fold.in_span(settings.batch_size, seed) if settings.in_span else fold
    fitted = train_predictor(task, settings, fold, seed)
    return {"validation": fitted.value, "epoch": fitted.epoch, "scores": test_scores(task, fitted, fold.test)}


def defined(results: list[dict[str, Any]], name: str) -> list[float]:
    """Return a score for the folds in which it is defined; other folds are ignored, as in the kit."""
    return [result[name] for result in results if result[name] is not None]


def mean_over_folds(task: Task, results: list[dict[str, Any]], name: str) -> float | None:
    """Return a score's mean over the folds in which it is defined, or None when there is none.

    An F-measure is 0 when there are true events but none was predicted in any fold.
    """
    found = defined(results, name)
    if not found and SCORES[name].events and not all(task.lacking(name, fold["test"]) for fold in task.folds()):
        return 0.0
    return statistics.fmean(found) if found else None


def new_predictor(task: Task, dim: int, point: PredictorSettings, seed: int) -> Predictor:
    """Return an untrained network for embeddings (rows, dim) of a task."""
    return Predictor(dim, len(task.labels), point, task.prediction_type == "multilabel", seed)


def train_predictor(task: Task, settings: PredictorSettings, fold: Fold, seed: int) -> Fitted:
    """Train a network with early stopping and return it at its best check; with an annealed learning rate it is checked at its end.

    Training ends at a check whose value is not finite, as in the kit (an event predictor that finds nothing), or that cannot be
    exceeded.
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
    """Return the best possible value of a check."""
    if not task.stop_by_score:
        return math.inf
    score = SCORES[task.scores[0]]
    return score.best if score.maximize else -score.best


def validation_value(task: Task, network: Predictor, valid: LabelledRows) -> tuple[float, Postprocessing | None]:
    """Return the value that checks maximise, -inf when undefined, and its postprocessing."""
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
    place = ranks.index(max(ranks))  # the kit uses the highest score here even if lower is better, and of equals the highest parameters
    return (sign * values[place] if math.isfinite(values[place]) else -math.inf), choices[place]


def probabilities(task: Task, logits: Tensor) -> NDArray[Any]:
    """Return probabilities (rows, labels) of logits (rows, labels)."""
    result = logits.sigmoid() if task.prediction_type == "multilabel" else logits.softmax(-1)
    return np.asarray(result.numpy())


def events_of(task: Task, logits: Tensor, rows: LabelledRows, postprocessing: Postprocessing) -> EventLists:
    """Return the predicted events of every clip."""
    frames = probabilities(task, logits)
    return {file: find_events(frames[place], rows.timestamps_ms[place], task.labels, **postprocessing) for file, place in rows.clips}


def test_scores(task: Task, fitted: Fitted, test: LabelledRows) -> dict[str, float | None]:
    """Return all scores of the task on the test rows, None if undefined."""
    network = new_predictor(task, test.embeddings.shape[1], fitted.settings, 0)
    network.copy_from(fitted.state)
    logits = network.predict(test.embeddings)
    if task.embedding_type == "scene":
        predictions: Any = probabilities(task, logits)
        targets: Any = test.targets.numpy()
    else:
        assert fitted.postprocessing is not None
        predictions, targets = events_of(task, logits, test, fitted.postprocessing), test.events
    return defined_scores(task, predictions, targets)


def defined_scores(task: Task, predictions: Any, targets: Any) -> dict[str, float | None]:
    """Return all scores of predictions, None if undefined."""
    values = {name: SCORES[name].compute(predictions, targets) for name in task.scores}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
