"""Evaluation in Python: `evaluate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_ssl.errors import verb
from hear_ssl.evaluation import BASELINES, GRIDS
from hear_ssl.evaluation.foreign.known import known_modules
from hear_ssl.machine import expand_home, usable_cores


@dataclass(frozen=True)
class Asked:
    """The options of an evaluation, see `evaluate`."""

    grid: str
    seeds: int
    weights: str
    compare: list[str]
    only: list[str] | None
    device: str
    baselines: Sequence[str] = tuple(BASELINES)
    python: str = ""


@verb
def evaluate(
    model: str | os.PathLike[str],
    *,
    tasks: str | os.PathLike[str],
    out: str | os.PathLike[str] = "scores",
    grid: str = "official",
    only: Sequence[str] = (),
    compare: Sequence[str | os.PathLike[str]] = (),
    seeds: int = 1,
    weights: str | os.PathLike[str] = "",
    device: str = "auto",
    baselines: Sequence[str] = tuple(BASELINES),
    python: str | os.PathLike[str] = "",
) -> dict[str, Any]:
    """Score a model on tasks in HEAR format, as `hear-ssl evaluate` does, and return its scores with those of its baselines.

    model: a run, a checkpoint, or the name of a module with the HEAR API. tasks: a folder of tasks, or one task. only: parts of the
    names of the tasks to use. out: the folder for scores.json and cached embeddings; existing results are not computed again.
    grid: "official", the search of the benchmark, "fast", one small network, or "few-shot", scene tasks in seconds. compare: more models
    for the table. baselines: "logmel" (log-mel statistics), "untrained" (the same architecture with random weights), both, which is
    the default, or none, and modules with an environment of `hear-ssl foreign`; their scores are cached for later evaluations.
    seeds: predictors trained per task. weights: a weights file for load_model() of a module.
    device: auto, cpu, cuda, cuda:1 or mps; auto uses a GPU if there is one. python: the interpreter of the environment in which the
    module is installed; a process there computes the embeddings.

    The scores are the record of scores.json: {"tasks": {task: {model: {"score": ..., "primary": name of the score, ...}}}, "faults":
    {task: {model: reason}}}, the second for what could not be scored, which is reported too. Progress goes to the logger `hear_ssl`.

    Raises ValueError when the model cannot be loaded or there are no such tasks, OSError when `out` cannot be written.
    """
    if grid not in GRIDS:
        raise ValueError(f"grid is {grid!r}; give {' or '.join(GRIDS)}")
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds is {seeds!r}; it must be a whole number of at least 1")
    names = [only] if isinstance(only, str) else list(only)
    others = [path_of(other) for other in ([compare] if isinstance(compare, (str, os.PathLike)) else compare)]
    standing = [baselines] if isinstance(baselines, str) else list(baselines)
    check_baselines(standing)
    asked = Asked(grid, seeds, path_of(weights), others, names or None, device, standing, path_of(python))
    record, _ = scored(path_of(model), Path(path_of(tasks)), Path(path_of(out)), asked)
    return record


def check_baselines(names: Sequence[str]) -> None:
    """Raise ValueError when a name is not a baseline."""
    wrong = next((name for name in names if name not in BASELINES and name not in known_modules()), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a baseline; give none, {', '.join(BASELINES)}, or both, and modules of hear-ssl foreign")


def path_of(path: str | os.PathLike[str]) -> str:
    """Return a path or a name as text, with ~ replaced by the home folder."""
    return expand_home(os.fspath(path), "the path")


def scored(model: str, tasks: Path, out: Path, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Return the record of the scores and the names of its models, baselines last. Raises what `evaluate` raises."""
    import torch

    from hear_ssl.evaluation.baseline_scores import cache_folder
    from hear_ssl.evaluation.device import float32_kept
    from hear_ssl.evaluation.run import evaluate as evaluate_models
    from hear_ssl.evaluation.run import models_to_compare
    from hear_ssl.evaluation.scores_file import asked_for
    from hear_ssl.evaluation.tasks.task_format import find_tasks

    folders = find_tasks(tasks, asked.only)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, usable_cores()))
    try:
        with float32_kept(), torch.random.fork_rng(devices=[]):
            standing = [BASELINES.get(name, name) for name in asked.baselines]
            models = models_to_compare(model, asked.weights, asked.compare, asked.device, standing, asked.python, out)
            record = evaluate_models(models, folders, out, asked.grid, asked.seeds, kept=cache_folder())
    finally:
        torch.set_num_threads(threads)
    names = [one.name for one in models]
    return asked_for(record, [folder.name for folder in folders], names), names
