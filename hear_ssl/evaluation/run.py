"""Score models on tasks: the table with baselines, scores.json, and the handling of tasks that fail."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hear_ssl.errors import one_line, printable
from hear_ssl.evaluation.baseline_scores import BaselineScores
from hear_ssl.evaluation.device import choose_device
from hear_ssl.evaluation.foreign.model import load_anywhere, load_known, untrained_like
from hear_ssl.evaluation.model_under_test import (
    BASELINES,
    LOG_MEL,
    UNTRAINED,
    ModelUnderTest,
    log_mel,
)
from hear_ssl.evaluation.protocol.embed import task_hash, task_rows
from hear_ssl.evaluation.protocol.few_shot import by_protocol, mean_of, score_few_shot
from hear_ssl.evaluation.protocol.grid import DRAWS, FEW_SHOT, SEED, points_hash
from hear_ssl.evaluation.protocol.predictor_cache import PredictorCache
from hear_ssl.evaluation.protocol.score_task import LabelledRows, score_task
from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.scores_file import ScoresFile
from hear_ssl.evaluation.tasks.task_format import Task, read_task
from hear_ssl.files import check_writable
from hear_ssl.progress import counted, on_terminal, report, warn

CLEAR = "\r\033[K"  # clears the progress line on a terminal
LOG_SECONDS = 30.0  # between progress lines in a log file


def models_to_compare(
    module: str,
    weights: str,
    compare: list[str],
    device: str = "cpu",
    baselines: Sequence[str] = BASELINES,
    python: str = "",
    logs: Path = Path(),
) -> list[ModelUnderTest]:
    """Return the model, the models to compare it with, and the baselines: same architecture untrained, log-mel, modules.

    python: the interpreter of the module's environment; its output is written to a file in the folder `logs`. Other modules, and this
    one without `python`, run in the environment made for them by `hear-ssl foreign`, otherwise in this process.
    With device `auto` a model that fails on a GPU moves to the CPU. Raises ValueError when a model cannot be loaded or moved, the device
    does not exist, or two models have the same name.
    """
    place = choose_device(device)
    models = [load_anywhere(module, weights, python, logs, device)]
    models += [load_anywhere(name, "", "", logs, device) for name in compare]
    plain = untrained_like(models[0], module) if UNTRAINED in baselines else None
    models += [load_known(name, "", logs, device) for name in baselines if name not in BASELINES and name != module]
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1 or name in BASELINES), None)
    if twice:
        raise ValueError(f"{twice} is given twice or is a baseline, which --baselines names; give every --compare once")
    models = [*models, *([plain] if plain else []), *([log_mel()] if LOG_MEL in baselines else [])]
    for model in models:
        model.move(place, fall_back=device == "auto")
    return models


def evaluate(
    models: list[ModelUnderTest], folders: list[Path], out: Path, grid: str, seeds: int, show: bool = True, kept: Path | None = None
) -> dict[str, Any]:
    """Return and write OUT/scores.json: {task: {model: result}}, and {task: {model: reason}} for tasks that could not be scored.

    A task is read and hashed once for all models. Every result is written when it is ready. Results that other evaluations write to the
    file in the meantime are kept, and so are results of other grids and seeds, under `others`. Results of the same model, task and grid
    points are not computed again, nor are networks of an interrupted evaluation. Results of baselines are cached in the folder `kept`, if
    one is given. Raises ValueError before any computation when OUT cannot be written, or when several seeds are given for the grid
    few-shot, which has draws.
    """
    if grid == FEW_SHOT and seeds > 1:
        raise ValueError(f"the grid {FEW_SHOT} is the mean over {DRAWS} draws already; leave --seeds out")
    check_writable(out / "scores.json")
    baseline_scores = BaselineScores(kept, grid, seeds)
    scores = ScoresFile(out / "scores.json", grid, seeds)
    for folder in folders:
        try:
            task = read_task(folder)
        except ValueError as error:
            scores.put(folder.name, {}, dict.fromkeys((model.name for model in models), _complain(folder.name, error)))
            continue
        if grid == FEW_SHOT and task.embedding_type != "scene":
            warn(printable(f"{folder.name}: left out, since the grid {FEW_SHOT} is for scene tasks"), aside=True)
            continue
        hashed = task_hash(task)
        for model in models:
            earlier = scores.record()["tasks"].get(folder.name, {}).get(model.name, {})
            keys = {"key": model.key, "task_hash": hashed}
            same = all(earlier.get(name) == value for name, value in keys.items())
            networks = PredictorCache(out / "networks" / f"{folder.name}-{hashed}-{model.key}-{points_hash(grid)}.json")
            try:
                result = earlier if same else baseline_scores.get(model, hashed)
                if result is None:
                    result = score(model, task, out, grid, seeds, show, networks)
                    baseline_scores.put(model, hashed, result)
            except (ValueError, RuntimeError, MemoryError) as error:  # an OSError is caused by --out and ends the evaluation
                scores.put(folder.name, {}, {model.name: _complain(f"{folder.name}: {model.name}", error)})
                continue
            scores.put(folder.name, {model.name: {**result, **keys, "weights": model.weights}}, {})
            networks.forget()
    return scores.record()


def _complain(what: str, error: Exception) -> str:
    """Warn in one line that something has no score, and return the reason."""
    reason = "out of memory; close other programs" if isinstance(error, MemoryError) and not str(error) else one_line(error)
    warn(f"{CLEAR if redraws() else ''}{printable(what)}: {reason}", aside=True)
    return reason


def score(model: ModelUnderTest, task: Task, out: Path, grid: str, seeds: int, show: bool, networks: PredictorCache) -> dict[str, Any]:
    """Return one model's result on one task, over `seeds` seeds of the predictor."""
    progress = progress_of(f"{task.folder.name} {model.name}") if show else lambda line: None
    start = time.monotonic()
    rows = task_rows(task, model, out / "embeddings", progress)
    embedded = time.monotonic()
    result = score_few_shot(task, rows, progress) if grid == FEW_SHOT else score_seeds(task, rows, grid, seeds, progress, networks)
    progress("")
    seconds = {"embedding_seconds": round(embedded - start, 2), "prediction_seconds": round(time.monotonic() - embedded, 2)}
    return result | seconds


def score_seeds(
    task: Task, rows: dict[str, LabelledRows], grid: str, seeds: int, progress: Callable[[str], None], networks: PredictorCache
) -> dict[str, Any]:
    """Return the result of trained networks as the mean over seeds."""
    results = [score_task(task, rows, grid, SEED + seed, progress, networks) for seed in range(seeds)]
    values = [result["scores"][result["primary"]] for result in results]
    return results[0] | {
        "score": statistics.fmean(values),
        "seed_deviation": statistics.stdev(values) if seeds > 1 else 0.0,
        "scores": {name: mean_of([result["scores"][name] for result in results]) for name in results[0]["scores"]},
    }


def progress_of(what: str) -> Callable[[str], None]:
    """Return a function that reports progress: a line that is rewritten on a terminal, occasional lines elsewhere."""
    last, what = time.monotonic(), printable(what)

    def show(line: str) -> None:
        nonlocal last
        if redraws():
            print(f"{CLEAR}{what}: {line}" if line else CLEAR, end="", file=sys.stderr, flush=True)
        elif line and time.monotonic() - last >= LOG_SECONDS:
            last = time.monotonic()
            report(f"{what}: {line}", aside=True)

    return show


def redraws() -> bool:
    """Return whether progress is one line that is rewritten: in a command whose stderr is a terminal."""
    return on_terminal() and sys.stderr.isatty()


def in_mean(results: dict[str, Any], names: list[str]) -> bool:
    """Return whether a task counts in the mean: every model has its score, and higher is better."""
    return all(name in results and SCORES[results[name]["primary"]].maximize for name in names)


def tables(record: dict[str, Any], names: list[str]) -> str:
    """Return the scores as text: one table, or for the grid few-shot one per protocol."""
    return "\n\n".join(f"{title}\n{table(one, names)}".lstrip("\n") for title, one in by_protocol(record))


def table(record: dict[str, Any], names: list[str]) -> str:
    """Return the scores as text: a row per task, a column per model, and the mean over tasks that all models have, without error rates."""
    rows = [["task", "score", *names]]
    for task, results in record["tasks"].items():
        primary = next((result["primary"] for result in results.values()), "-")
        rows.append([task, primary, *(_cell(results.get(name)) for name in names)])
    complete = [results for results in record["tasks"].values() if in_mean(results, names)]
    if complete:
        means = [statistics.fmean(results[name]["score"] for results in complete) for name in names]
        rows.append(["mean", f"of {counted(len(complete), 'task')}", *(f"{mean:.3f}" for mean in means)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<<" + ">" * len(names)
    lines = ["  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows]
    return "\n".join(map(printable, lines))


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return "-"
    return f"{result['score']:.3f}" + (f" ± {result['seed_deviation']:.3f}" if result["seed_deviation"] else "")
