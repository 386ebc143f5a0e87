"""The grid points of the search for a predictor: those of heareval 2021.1.3, or a single one."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from sklearn.model_selection import ParameterGrid

from hear_ssl.evaluation.protocol.predictor import PredictorSettings
from hear_ssl.evaluation.tasks.task_format import Task

SEED = 42
GRID_POINTS = 8
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
# embeddings of several thousand dimensions are ten times faster in the space spanned by a few hundred rows
FAST = OFFICIAL | {"hidden_layers": [1], "hidden_dim": [256], "lr": [1e-3], "initialization": ["xavier_uniform_"], "in_span": [True]}
# validation on the frames of a few clips is too noisy for early stopping: a fixed number of steps, with a learning rate annealed to zero
FAST_EVENTS = FAST | {"hidden_layers": [2], "hidden_dim": [512], "max_epochs": [20], "annealed_steps": [600]}
SLOW_TO_SCORE = {"dcase2016_task2": {"check_val_every_n_epoch": [10]}}
POSTPROCESSING = {"median_filter_ms": [250], "min_duration": [125, 250]}
Postprocessing = dict[str, float]
FEW_SHOT = "few-shot"  # no network: see few_shot.py
SHOTS, DRAWS, ITERATIONS = 8, 10, 100  # clips per label, draws, most iterations of logistic regression


def grid_points(task: Task, grid: str) -> list[PredictorSettings]:
    """Return the grid points to search in the order of the kit: the first eight of the shuffled grid.

    Raises ValueError when the training of a point ends before its first check.
    """
    quick = FAST if task.embedding_type == "scene" else FAST_EVENTS
    chosen = (quick if grid == "fast" else OFFICIAL) | (SLOW_TO_SCORE.get(task.name, {}))
    chosen = chosen | {key: value for key, value in task.parameters.get("task_specific_param_grid", {}).items() if key in OFFICIAL}
    points = [PredictorSettings(**point) for point in ParameterGrid(chosen)]
    if any(point.max_epochs < point.check_val_every_n_epoch for point in points):
        raise ValueError(
            f"max_epochs {chosen['max_epochs']} end before the first check after {chosen['check_val_every_n_epoch']}; raise them"
        )
    random.Random(SEED).shuffle(points)
    return points[:GRID_POINTS]


def postprocessing_choices(task: Task) -> list[Postprocessing]:
    """Return the postprocessing parameters for events among which validation chooses."""
    return list(ParameterGrid(task.parameters.get("event_postprocessing_grid", POSTPROCESSING)))


def points_hash(grid: str) -> str:
    """Return a hash of the points of a grid, which may change between versions."""
    if grid == FEW_SHOT:
        content: list[Any] = [FEW_SHOT, SHOTS, DRAWS, ITERATIONS]
    else:
        content = [(FAST, FAST_EVENTS) if grid == "fast" else OFFICIAL, SLOW_TO_SCORE, GRID_POINTS, POSTPROCESSING]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
