"""Score a run's embeddings with and without linear maps, at equal dimension, with probes that standardise and probes that do not.

    python -m tests.benchmarks.linear_readout RUN --tasks TASKS --out FOLDER [--dims 512] [--clips 4096] [--seeds 1] [--shards FOLDER]

Each task is embedded once with all layers; the maps are fitted in one pass over clips of the training shards, as in `hear-ssl package`.
Scene tasks: the grids fast and few-shot, with nearest neighbours and ridge regression. Event tasks: the grid fast, on original and
standardised embeddings. It prints a line per score, then a table per protocol.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.errors import run_main
from hear_ssl.evaluation.model_under_test import from_checkpoint
from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.protocol.few_shot import score_few_shot
from hear_ssl.evaluation.protocol.grid import SEED
from hear_ssl.evaluation.protocol.score_task import LabelledRows, score_task
from hear_ssl.evaluation.tasks.task_format import Task, read_task
from hear_ssl.model import Embedder
from hear_ssl.model.options import from_mapping
from hear_ssl.packaging.linear_map import LinearMap, Moments
from hear_ssl.training.fit_linear import Pass, clips_to_fit_on

Variants = dict[str, Callable[[Tensor], Tensor]]
Rows = dict[str, LabelledRows]


def variants_of(moments: Moments, dims: int, last: int) -> Variants:
    """Return functions by name from embeddings of all layers to rows (count, dims); `last`: width of the last layer, at the end."""
    maps = {
        f"pca:{dims}": LinearMap("pca", dims),
        f"pca:{dims}, components as dimensions": LinearMap("pca", dims, even=False),
        f"whiten:{dims}": LinearMap("whiten", dims),
        f"whiten:{dims}, components as dimensions": LinearMap("whiten", dims, even=False),
        f"standardise:{dims}": LinearMap("standardise", dims),
    }
    fitted = {name: one.fit(moments) for name, one in maps.items()}
    return {"all layers": lambda rows: rows, "last layer": lambda rows: rows[:, -last:], **fitted}


def changed(rows: Rows, function: Callable[[Tensor], Tensor], standardised: bool = False) -> Rows:
    """Return the rows of all splits with changed embeddings, optionally standardised by mean and deviation over the first split."""
    with torch.no_grad():
        found = {split: function(one.embeddings) for split, one in rows.items()}
    if standardised:
        first = next(iter(found.values()))
        mean, deviation = first.mean(0), first.std(0)
        kept = deviation > 1e-6 * deviation.max()
        found = {split: ((one - mean) / deviation)[:, kept] for split, one in found.items()}
    return {split: replace(one, embeddings=found[split].contiguous()) for split, one in rows.items()}


def scores_of(task: Task, rows: Rows, function: Callable[[Tensor], Tensor], seeds: int) -> dict[str, float]:
    """Return a variant's scores on a task by protocol."""
    mapped = changed(rows, function)

    def fast(given: Rows) -> float:
        results = [score_task(task, given, "fast", SEED + seed) for seed in range(seeds)]
        return sum(float(result["scores"][result["primary"]]) for result in results) / seeds

    if task.embedding_type != "scene":
        return {"fast": fast(mapped), "fast, standardised": fast(changed(rows, function, standardised=True))}
    result: dict[str, Any] = score_few_shot(task, mapped)
    return {"fast": fast(mapped), **{name: float(one["score"]) for name, one in result["protocols"].items()}}


def moments_of(run: Path, embedder: Embedder, shards: list[str], clips: int, file: Path) -> dict[str, Moments]:
    """Return the moments of scene and timestamp embeddings over clips of the run's shards, or of others."""
    config = from_mapping(DataConfig, load_checkpoint(run)["config"]["data"], "data")
    config = replace(config, shards=shards, weights=[]) if shards else config
    return Pass(embedder, clips_to_fit_on(config, embedder.sample_rate, 2.0), ["scene", "timestamp"], file, {}).run(clips)


def table(found: dict[tuple[str, str, str], float], protocol: str) -> str:
    """Return the scores of one protocol as a Markdown table with a row per variant and a column per task."""
    tasks = list(dict.fromkeys(task for task, _, name in found if name == protocol))
    lines = [f"| {protocol} | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 2) + "|"]
    for variant in dict.fromkeys(variant for _, variant, _ in found):
        values = [found[task, variant, protocol] for task in tasks if (task, variant, protocol) in found]
        if len(values) == len(tasks):
            lines.append(f"| {variant} | {' | '.join(f'{value:.3f}' for value in values)} | {sum(values) / len(values):.3f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the scores of every variant on every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tasks", type=Path, required=True, help="folder with the folders of tasks")
    parser.add_argument("--out", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shards", nargs="+", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model = from_checkpoint(given.run)
    embedder: Embedder = model.model
    moments = moments_of(given.run, embedder, given.shards, given.clips, given.out / "moments.fit")
    last, found = embedder.encoder.layer_dims[-1], dict[tuple[str, str, str], float]()
    variants = {kind: variants_of(moments[kind], given.dims, last) for kind in moments}
    for folder in sorted(path.parent for path in given.tasks.glob("*/task_metadata.json")):
        task = read_task(folder)
        kind = "scene" if task.embedding_type == "scene" else "timestamp"
        rows = task_rows(task, model, given.out / "embeddings")
        for variant, function in variants[kind].items():
            began = time.process_time()
            for protocol, value in scores_of(task, rows, function, given.seeds).items():
                found[task.name, variant, protocol] = value
                print(f"{task.name}, {variant}, {protocol}: {value:.3f}", flush=True)
            print(f"{time.process_time() - began:.0f} s", flush=True)
    for protocol in dict.fromkeys(protocol for _, _, protocol in found):
        print(f"\n{table(found, protocol)}")
    return 0


if __name__ == "__main__":
    run_main(main)
