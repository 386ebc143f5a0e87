"""Train every recipe on the same shards for the same steps, score each on the same tasks, print the table.

python -m tests.benchmarks.recipes --shards SHARDS --tasks TASKS --out OUT [--steps 1000] [--seeds 0 1] [--set key=value ...]

Existing results are not computed again, so it can be stopped and restarted. Several processes can run different seeds at once; a final
call with all seeds prints the whole table.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ["simclr", "cola", "moco_v3", "byol_a", "barlow_twins", "vicreg", "frame", "clip_frame_pitch"]
ENCODER = ["encoder.audio_ntt.channels=32", "encoder.audio_ntt.dim=512", "frontend.mean=-6", "frontend.std=7"]


def train(arguments: argparse.Namespace, recipe: str, seed: int) -> Path:
    """Train one recipe, or resume it, and return its run folder."""
    run = Path(arguments.out) / f"{recipe}-{seed}"
    script = [sys.executable, str(ROOT / "train/fit.py")]
    if (run / "checkpoints" / "last.ckpt").is_file():
        start = ["--resume", str(run)]
    else:
        start = ["--config", str(ROOT / "configs" / f"{recipe}.yaml"), f"data.shards={arguments.shards}", f"run={run}", f"seed={seed}"]
        start += [f"trainer.steps={arguments.steps}", "wandb=disabled", *ENCODER, *arguments.set]
    if not (run / "scored").exists():
        subprocess.run([*script, *start], check=True)
    return run


def score(arguments: argparse.Namespace, run: Path, seed: int) -> dict[str, dict[str, float]]:
    """Return {task: {model: score}} for a run and its baselines, which are scored once per seed of the predictor."""
    from hear_ssl.evaluation.run import evaluate, models_to_compare
    from hear_ssl.evaluation.tasks.task_format import find_tasks

    models = models_to_compare(str(run), "", [])
    record = evaluate(models, find_tasks(Path(arguments.tasks)), Path(arguments.out) / f"scores-{seed}", arguments.grid, 1)
    (run / "scored").touch()
    names = [model.name for model in models]
    return {task: {name: results[name]["score"] for name in names} for task, results in record["tasks"].items()}


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--grid", default="fast")
    parser.add_argument("--set", nargs="*", default=[])
    arguments = parser.parse_args()
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for seed in arguments.seeds:
        for recipe in RECIPES:
            run = train(arguments, recipe, seed)
            for task, results in score(arguments, run, seed).items():
                for name, value in results.items():
                    rows.setdefault(recipe if name == str(run) else name, {}).setdefault(seed, {})[task] = value
    tasks = sorted(next(iter(next(iter(rows.values())).values())))
    print("| recipe | " + " | ".join(tasks) + " | mean |\n|" + "---|" * (len(tasks) + 2))
    for name, seeds in rows.items():
        cells = [f"{statistics.fmean(seed[task] for seed in seeds.values()):.3f}" for task in tasks]
        mean = statistics.fmean(statistics.fmean(seed.values()) for seed in seeds.values())
        print(f"| {name} | " + " | ".join(cells) + f" | {mean:.3f} |")


if __name__ == "__main__":
    main()
