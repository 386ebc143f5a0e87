"""A quick probe of an embedder during training: nearest neighbours and ridge regression on a few clips of a few tasks.

Only training and validation splits are used, never the test split; in k-fold tasks those of the first fold. The probe measures progress
within seconds and is not a score of the benchmark: it uses few clips, no search over networks, and frames instead of events.

serve() is the process that training starts: it reads its settings and then paths of checkpoints from stdin, one per line, and answers
each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hear_ssl.evaluation.device import choose_device, keep_float32
from hear_ssl.evaluation.model_under_test import ModelUnderTest, from_checkpoint
from hear_ssl.evaluation.protocol.embed import Embedded, batches, embed_batch, event_rows, scene_rows
from hear_ssl.evaluation.protocol.probes import nearest_neighbours, ridge
from hear_ssl.evaluation.protocol.score_task import LabelledRows
from hear_ssl.evaluation.protocol.scores import SCORES, mean_average_precision
from hear_ssl.evaluation.tasks.task_format import RATES, Task, audio_folder, find_tasks, read_clip, read_task

FRAMES = 10_000  # training rows of an event task for ridge regression


def probe_tasks(folders: list[str], clips: int, seconds: float, seed: int) -> list[Task]:
    """Return the tasks in `folders`, restricted to the clips to embed.

    Raises ValueError that names the wrong folder or file.
    """
    found = [path for folder in folders for path in find_tasks(Path(folder))]
    names = [path.name for path in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"the task {twice} is given twice; a probe takes each task once")
    return [with_few_clips(read_task(path), clips, seconds, seed) for path in found]


def with_few_clips(task: Task, clips: int, seconds: float, seed: int) -> Task:
    """Return the task with a few training and validation clips, without the test split."""
    fold = task.folds()[0]
    shares = {split: len(fold[role]) for role in ("train", "valid") for split in fold[role]}
    chosen = {split: few_clips(task, split, max(clips // share, 1), seconds / share, seed) for split, share in shares.items()}
    return replace(task, splits=tuple(shares), indexes=chosen)


def few_clips(task: Task, split: str, clips: int, seconds: float, seed: int) -> dict[str, object]:
    """Return clips of a split drawn by the seed, one of each label in turn, until there are enough, but at least one."""
    index = task.indexes[split]
    files = sorted(index)
    random.Random(seed).shuffle(files)
    groups: dict[str, list[str]] = {}
    for file in files:
        label = str(index[file][0]) if task.embedding_type == "scene" and index[file] else ""
        groups.setdefault(label, []).append(file)
    turns = sorted((turn, label, file) for label, group in groups.items() for turn, file in enumerate(group))
    chosen: list[str] = []
    total = 0.0
    for _, _, file in turns[:clips]:
        total += clip_seconds(task, split, file)
        if chosen and total > seconds:
            break
        chosen.append(file)
    return {file: index[file] for file in chosen}


def clip_seconds(task: Task, split: str, file: str) -> float:
    """Return a clip's length in seconds, from its file at any sample rate. Raises ValueError when it is missing or damaged."""
    rate = next((rate for rate in RATES if (task.folder / str(rate) / split / file).is_file()), None)
    if rate is None:
        raise ValueError(f"{task.folder} has no audio of {split}/{file} at any rate; unpack the task again")
    return len(read_clip(task.folder / str(rate) / split / file, rate)) / rate


def probe(task: Task, model: ModelUnderTest, spare: Path | None = None) -> dict[str, float]:
    """Return the validation scores of a task made by probe_tasks: knn (scene tasks) and linear, each from 0 to 1.

    The score is the first score of a scene task (area under ROC instead of d'), and the average precision of frames for an event task.
    Raises ValueError when an embedding is not finite or has a wrong shape.
    """
    *train_splits, valid_split = task.splits
    train = LabelledRows.joined([split_rows(task, split, model, spare) for split in train_splits])
    valid = split_rows(task, valid_split, model, spare)
    mean, spread = train.embeddings.mean(0), train.embeddings.std(0, unbiased=False) + 1e-6
    known, asked = (train.embeddings - mean) / spread, (valid.embeddings - mean) / spread
    if task.embedding_type == "event":
        some = torch.linspace(0, len(known) - 1, min(FRAMES, len(known))).long()
        return {"linear": score(task, ridge(known[some], train.targets[some], asked), valid.targets)}
    return {
        "knn": score(task, nearest_neighbours(known, train.targets, asked), valid.targets),
        "linear": score(task, ridge(known, train.targets, asked), valid.targets),
    }


def split_rows(task: Task, split: str, model: ModelUnderTest, spare: Path | None = None) -> LabelledRows:
    """Return the rows of a split without caching embeddings, since weights change between probes."""
    embedded: Embedded = {}
    folder = audio_folder(task, split, model.sample_rate, spare)
    for files, audio in batches(task, split, folder, model.sample_rate):
        embedded.update(embed_batch(task, model, files, audio))
    rows = scene_rows if task.embedding_type == "scene" else event_rows
    return rows(task, split, list(task.indexes[split]), embedded)


def score(task: Task, predictions: Tensor, targets: Tensor) -> float:
    """Return the score of predictions (rows, labels) on labels that have both positive and negative validation rows."""
    name = task.scores[0]
    if SCORES[name].accuracy:
        return SCORES[name].compute(predictions.numpy(), targets.numpy())
    mixed = targets.any(0) & ~targets.all(0)
    if not mixed.any():
        return 0.0
    compute = SCORES["aucroc"].compute if name in ("aucroc", "d_prime") else mean_average_precision
    return float(compute(predictions[:, mixed].numpy(), targets[:, mixed].numpy()))


def probe_all(tasks: list[Task], model: ModelUnderTest, spare: Path | None = None) -> dict[str, float]:
    """Return probe_TASK_knn and probe_TASK_linear of every task, and `probe`, the mean over tasks of the mean of both."""
    results = {task.folder.name: probe(task, model, spare) for task in tasks}
    means = [sum(scores.values()) / len(scores) for scores in results.values()]
    columns = {f"probe_{task}_{kind}": value for task, scores in results.items() for kind, value in scores.items()}
    return {"probe": sum(means) / len(means), **columns}


def answer(tasks: list[Task], checkpoint: Path, device: str = "cpu", spare: Path | None = None) -> dict[str, object]:
    """Return the scores of a checkpoint, or the error; with device `auto` the CPU is used when a GPU fails."""
    try:
        model = from_checkpoint(checkpoint)
        model.move(choose_device(device, "probe.device"), fall_back=device == "auto")
        return {"scores": probe_all(tasks, model, spare)}
    except (ValueError, RuntimeError, OSError) as error:
        return {"error": " ".join(str(error).split())[:300] or type(error).__name__}


def serve() -> None:
    """Answer checkpoints from stdin on stdout until stdin closes, which ends the process at once."""
    torch.set_num_threads(1)
    keep_float32()
    warnings.simplefilter("ignore")
    replies, sys.stdout = sys.stdout, sys.stderr
    settings = json.loads(sys.stdin.readline())
    device, spare = settings.pop("device", "cpu"), settings.pop("spare", None)
    tasks = probe_tasks(**settings)
    waiting: queue.Queue[Path] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            waiting.put(Path(json.loads(line)))
        os._exit(0)  # training ended or died: the answer is no longer needed

    threading.Thread(target=listen, daemon=True).start()
    while True:
        print(json.dumps(answer(tasks, waiting.get(), device, Path(spare) if spare else None)), file=replies, flush=True)
