"""Cross-validate on the three scene tasks: python -m examples.reference.cross_probe TASKS MODEL [MODEL ...] [--untrained]

The test split of a task has a few hundred clips, so that only differences of .03 between two models are significant. Here each clip of all
splits is tested once, by a probe that was not trained on it: five folds of drum kits, four of instruments (program number % 8 // 2), four
of random clips for languages. The probe is the benchmark's network with fixed settings: standardised embeddings, one hidden layer of 512,
learning rate 5e-4, 45 epochs in batches of 256. MODEL is a run folder or checkpoint; --untrained uses its architecture with random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hear_ssl.evaluation.model_under_test import ModelUnderTest, from_checkpoint
from hear_ssl.evaluation.protocol.embed import embed_split
from hear_ssl.evaluation.protocol.predictor import Predictor, PredictorSettings, RowBatch, reuse_memory
from hear_ssl.evaluation.tasks.task_format import Task, read_task

TASKS = ("dev_hydrogen_drums", "dev_ktuberling_language", "dev_timgm_pitch")
EPOCHS, BATCH = 45, 256
Array = NDArray[Any]


def folds(task: Task) -> Array:
    """Return the fold of every clip (clips,), in the order of the splits and of their clips."""
    if "pitch" in task.name:
        return np.array([int(file[1:4]) % 8 // 2 for split in task.splits for file in task.indexes[split]])
    if "drums" in task.name:
        return np.concatenate([np.full(len(task.indexes[split]), number) for number, split in enumerate(task.splits)])
    return np.random.RandomState(0).permutation(sum(len(task.indexes[split]) for split in task.splits)) % 4


def accuracy(rows: Array, targets: Array, fold: Array, labels: int) -> float:
    """Return the share of clips that the probe of their fold classifies correctly; rows (clips, dim), targets (clips,)."""
    right = 0
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        mean, deviation = rows[train].mean(0), rows[train].std(0) + 1e-4
        inputs, wanted = torch.from_numpy((rows[train] - mean) / deviation), torch.from_numpy(targets[train])
        network = Predictor(rows.shape[1], labels, PredictorSettings(hidden_dim=512, lr=5e-4), False, 1)
        order = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
            places = torch.randperm(len(inputs), generator=order)
            for batch in RowBatch.split(inputs[places], torch.nn.functional.one_hot(wanted[places], labels).float(), BATCH):
                network.step(batch)
        found = network.predict(torch.from_numpy((rows[test] - mean) / deviation)).argmax(1).numpy()
        right += int((found == targets[test]).sum())
    return right / len(targets)


def score(subject: ModelUnderTest, task: Task) -> float:
    """Return the accuracy of a model on a task."""
    rows, targets = [], []
    with tempfile.TemporaryDirectory() as cache:
        for split in task.splits:
            embedded = embed_split(task, split, subject, Path(cache), lambda line: None)
            for file, labels in task.indexes[split].items():
                rows.append(embedded[file][0][0])
                targets.append(task.labels.index(str(labels[0])))
    return accuracy(np.stack(rows).astype(np.float32), np.array(targets), folds(task), len(task.labels))


def main() -> None:
    """Print a row of the table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--untrained", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reuse_memory()
    print("| model | dimensions | " + " | ".join(TASKS) + " | mean |\n" + "|---" * (len(TASKS) + 3) + "|")
    for path in arguments.models:
        subject = from_checkpoint(path, trained=not arguments.untrained)
        scores = [score(subject, read_task(next(arguments.tasks.glob(f"{name}*")))) for name in TASKS]
        cells = [f"{value:.3f}" for value in [*scores, float(np.mean(scores))]]
        print(f"| {path.name} | {subject.scene_embedding_size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
