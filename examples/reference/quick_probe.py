"""A quick probe of a HEAR module: python -m examples.reference.quick_probe TASKS MODULE OUT [--seeds 3] [--untrained]

The probe has one hidden layer of 512 units on standardised embeddings. The best of three learning rates and of all checks, by validation,
is tested; all batches have about the same size. The grids of `hear_ssl.evaluate` do not standardise, as in the benchmark, so small
dimensions have less influence there; and with batches of 1,024 the last batch may have only a few rows, which harm the statistics of batch
normalisation. MODULE is a HEAR module, a run folder or a checkpoint; log-mel statistics are also scored, and with --untrained the same
encoder with random weights. Embeddings are cached in OUT.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hear_ssl.evaluation.model_under_test import UNTRAINED
from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.protocol.predictor import PredictorSettings, reuse_memory
from hear_ssl.evaluation.protocol.score_task import Fold, LabelledRows, mean_over_folds, test_scores, train_predictor
from hear_ssl.evaluation.run import models_to_compare, progress_of
from hear_ssl.evaluation.tasks.task_format import Task, read_task

LEARNING_RATES, LARGEST_BATCH = (1e-3, 3.2e-4, 1e-4), 256


def standardised(splits: dict[str, LabelledRows], train: list[str]) -> dict[str, LabelledRows]:
    """Return the rows, standardised by mean and deviation over the training splits."""
    known = torch.cat([splits[split].embeddings for split in train])
    mean, deviation = known.mean(0), known.std(0) + 1e-4

    def of(embeddings: Tensor) -> Tensor:
        return (embeddings - mean) / deviation

    return {split: replace(rows, embeddings=of(rows.embeddings)) for split, rows in splits.items()}


def points(rows: int) -> list[PredictorSettings]:
    """Return the grid points for this number of training rows, with a batch size that divides them almost evenly."""
    size = -(-rows // -(-rows // LARGEST_BATCH))
    return [PredictorSettings(hidden_dim=512, lr=lr, batch_size=size, max_epochs=60, patience=5) for lr in LEARNING_RATES]


def score(task: Task, splits: dict[str, LabelledRows], seed: int) -> float:
    """Return the task's first score, its mean over folds."""
    found = []
    for names in task.folds():
        choices = points(sum(len(splits[split].embeddings) for split in names["train"]))
        fold = Fold.of(standardised(splits, names["train"]), names, choices)
        fitted = max((train_predictor(task, point, fold, seed) for point in choices), key=lambda one: one.value)
        found.append(test_scores(task, fitted, fold.test))
    mean = mean_over_folds(task, found, task.scores[0])
    if mean is None:
        raise ValueError(f"{task.name}: {task.scores[0]} is undefined in every fold; mend the task's splits")
    return mean


def main() -> None:
    """Print a row of scores for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("module")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--untrained", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    reuse_memory()
    tasks = [read_task(folder) for folder in sorted(path for path in given.tasks.iterdir() if path.is_dir())]
    print("| model | " + " | ".join(task.name for task in tasks) + " | mean |\n" + "|---" * (len(tasks) + 2) + "|", flush=True)
    for subject in models_to_compare(given.module, "", []):
        if subject.name == UNTRAINED and not given.untrained:
            continue
        cells, means = [], []
        for task in tasks:
            progress = progress_of(f"{task.name} {subject.name}")
            splits = task_rows(task, subject, given.out / "embeddings", progress)
            values = [score(task, splits, seed) for seed in range(given.seeds)]
            means.append(statistics.fmean(values))
            cells.append(f"{means[-1]:.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""))
        print(f"| {subject.name} | " + " | ".join(cells) + f" | {statistics.fmean(means):.3f} |", flush=True)


if __name__ == "__main__":
    main()
