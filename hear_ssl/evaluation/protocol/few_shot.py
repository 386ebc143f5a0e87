"""The grid `few-shot`: scores of scene embeddings without a trained network, in seconds per task.

There are three protocols, on every fold, with the scores of the task:
few-shot: logistic regression on 8 clips of each label, without a scaler, mean over 10 draws; for multilabel tasks the 5 nearest
    neighbours among these clips (MAEB, the Massive Audio Embedding Benchmark: mteb's AbsTaskClassification and its multilabel kin).
knn: the 5 nearest neighbours by cosine among all clips to learn from.
linear: ridge regression on all of them, standardised.
The first depends on the scale of each dimension, the second on the angles between embeddings, the third on neither of them.
"""

from __future__ import annotations

import random
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from hear_ssl.evaluation.protocol.grid import DRAWS, FEW_SHOT, ITERATIONS, SEED, SHOTS
from hear_ssl.evaluation.protocol.parallel import check_ended, run_parallel
from hear_ssl.evaluation.protocol.probes import nearest_neighbours, ridge
from hear_ssl.evaluation.protocol.score_task import LabelledRows, defined_scores, mean_over_folds
from hear_ssl.evaluation.tasks.task_format import Task

PROTOCOLS = {
    "few-shot": "8 shots of each label, 10 draws: logistic regression; of multilabel tasks 5 nearest neighbours",
    "knn": "5 nearest neighbours by cosine",
    "linear": "ridge regression on standardised embeddings",
}
ASKED_AT_ONCE = 1024  # test clips whose cosines are in memory at once

Scores = dict[str, float | None]


def score_few_shot(task: Task, splits: dict[str, LabelledRows], progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Return the scores of a scene task by every protocol; those of few-shot are the scores of the task.

    Raises ValueError when the task's first score is undefined in every fold.
    """
    names = task.folds()
    undefined = [task.lacking(task.scores[0], fold["test"]) for fold in names]
    if all(undefined):
        raise ValueError(f"{task.scores[0]} is undefined: {undefined[0]} in the split {names[0]['test'][0]}; mend the task's splits")
    found: dict[str, list[list[Scores]]] = {name: [] for name in PROTOCOLS}  # for each fold a list of draws
    for number, fold in enumerate(names):
        progress(f"fold {number + 1} of {len(names)}")
        train, test = (LabelledRows.joined([splits[split] for split in fold[role]]) for role in ("train", "test"))
        jobs: list[Callable[[], Tensor]] = [partial(few_shot, task, train, test, draw) for draw in range(DRAWS)]
        jobs += [partial(predict, train.embeddings, train.targets, test.embeddings) for predict in (neighbours, linear)]
        # one thread per job: several BLAS threads that synchronise are slower than one
        with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the iteration limit is part of the protocol
            scores = [defined_scores(task, predictions.numpy(), test.targets.numpy()) for predictions in run_parallel(jobs)]
        for name, draws in zip(PROTOCOLS, (scores[:DRAWS], scores[DRAWS:-1], scores[-1:]), strict=True):
            found[name].append(draws)
    protocols = {
        name: summary(task, draws, [sum(len(splits[split].clips) for split in fold["test"]) for fold in names])
        for name, draws in found.items()
    }
    return {**protocols["few-shot"], "protocols": protocols, "settings": {"shots": SHOTS, "draws": DRAWS}}


def summary(task: Task, draws: list[list[Scores]], sizes: list[int]) -> dict[str, Any]:
    """Return the scores of a protocol: means over folds of means over draws, with standard deviations over folds and over draws."""
    folds = [{name: mean_of([draw[name] for draw in of_fold]) for name in task.scores} for of_fold in draws]
    primary = task.scores[0]
    values = {name: [value for fold in folds if (value := fold[name]) is not None] for name in task.scores}
    of_draws = [mean_of([of_fold[number][primary] for of_fold in draws]) for number in range(len(draws[0]))]
    drawn = [value for value in of_draws if value is not None]
    scores = {name: mean_over_folds(task, folds, name) for name in task.scores}
    return {
        "primary": primary,
        "score": scores[primary],
        "scores": scores,
        "deviation": {name: statistics.stdev(found) if len(found) > 1 else 0.0 for name, found in values.items()},
        "seed_deviation": statistics.stdev(drawn) if len(drawn) > 1 else 0.0,
        "folds": [{**fold, "test_clips": clips} for fold, clips in zip(folds, sizes, strict=True)],
    }


def mean_of(values: list[float | None]) -> float | None:
    """Return the mean of the defined values, or None when there is none."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def few_shot(task: Task, train: LabelledRows, test: LabelledRows, draw: int) -> Tensor:
    """Return predictions (clips, labels) for the test clips from one draw of 8 clips per label."""
    check_ended()
    chosen = shots(train.targets, draw)
    rows, targets = train.embeddings[chosen], train.targets[chosen]
    predict = logistic if task.prediction_type == "multiclass" else neighbours
    return predict(rows, targets, test.embeddings)


def shots(targets: Tensor, draw: int) -> list[int]:
    """Return the chosen rows of targets (clips, labels) in the order of a draw: those with a label that fewer than 8 earlier rows have."""
    order = list(range(len(targets)))
    random.Random(f"{SEED} {draw}").shuffle(order)
    counts, chosen = torch.zeros(targets.shape[1]), []
    for row in order:
        wanted = targets[row] > 0
        if (counts[wanted] < SHOTS).any():
            chosen.append(row)
            counts += targets[row]
    return chosen


def logistic(known: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Return the probabilities (asked, labels) of logistic regression without a scaler and with at most 100 iterations, as in MAEB."""
    labels = targets.argmax(1).numpy()
    result = torch.zeros(len(asked), targets.shape[1])
    if len(present := np.unique(labels)) < 2:
        result[:, present] = 1.0
        return result
    fitted = LogisticRegression(max_iter=ITERATIONS).fit(known.numpy(), labels)
    result[:, torch.from_numpy(fitted.classes_)] = torch.from_numpy(fitted.predict_proba(asked.numpy())).float()
    return result


def neighbours(known: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Return the votes (asked, labels) of the 5 nearest neighbours by cosine."""
    return torch.cat([nearest_neighbours(known, targets, part) for part in torch.split(asked, ASKED_AT_ONCE)])


def linear(known: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Return the predictions (asked, labels) of ridge regression on standardised embeddings."""
    mean, spread = known.mean(0), known.std(0, unbiased=False) + 1e-6
    return ridge((known - mean) / spread, targets, (asked - mean) / spread)


def by_protocol(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (description, record) for each protocol of a record of scores; other grids have one record, without a description."""
    if record["grid"] != FEW_SHOT:
        return [("", record)]

    def of(name: str) -> dict[str, Any]:
        tasks = record["tasks"].items()
        return {task: {model: {**one, **one["protocols"][name]} for model, one in results.items()} for task, results in tasks}

    return [(f"{name}: {text}", {**record, "tasks": of(name)}) for name, text in PROTOCOLS.items()]
