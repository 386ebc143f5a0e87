"""The official kit and ours on the same tasks, side by side: scores, seconds of prediction, ratio.

python tests/benchmarks/evaluate.py --kit PATH/heareval.sh --tasks TASKS --module NAME --out OUT [--points 8] [--path FOLDER]

The kit runs first (minutes to hours), then ours with the official grid and with the fast one. NAME is a HEAR module,
hear_ssl.evaluate.baselines for log-mel statistics; FOLDER is where it is imported from.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run_kit(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Return (primary score, seconds of prediction) of every task by the kit."""
    out = Path(arguments.out) / "kit"
    command = ["bash", arguments.kit, arguments.module, arguments.tasks, str(out), "-p", str(arguments.points), "-P", arguments.path]
    if not (out / "done.log").is_file():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (out / "done.log").write_text(done.stdout)
    seconds = dict(re.findall(r"^(\S+) predictions took (\d+) s", (out / "done.log").read_text(), re.MULTILINE))
    found = {}
    for path in sorted(out.glob("embeddings/*/*/test.predicted-scores.json")):
        task, record = path.parent.name, json.loads(path.read_text())
        primary = json.loads((path.parent / "task_metadata.json").read_text())["evaluation"][0]
        scores = record.get("aggregated_scores") or record["test"]
        key = next(key for key in (f"test_{primary}_mean", f"test_{primary}") if key in scores)
        found[task] = (scores[key], float(seconds.get(task, "nan")))
    return found


def run_ours(arguments: argparse.Namespace, grid: str) -> dict[str, dict[str, Any]]:
    """Return our results by task."""
    from hear_ssl.evaluate.run import evaluate
    from hear_ssl.evaluate.subject import load_subject
    from hear_ssl.evaluate.task import find_tasks

    subject = load_subject(arguments.module)
    record = evaluate([subject], find_tasks(Path(arguments.tasks)), Path(arguments.out) / grid, grid, arguments.seeds)
    return {task: results[subject.name] for task, results in record["tasks"].items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--path", default=str(ROOT))
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    arguments.tasks, arguments.out = os.path.realpath(arguments.tasks), os.path.realpath(arguments.out)
    sys.path[:0] = [arguments.path]
    kit, official, fast = run_kit(arguments), run_ours(arguments, "official"), run_ours(arguments, "fast")
    print(f"{'task':34}{'kit':>8}{'official':>16}{'fast':>8}{'kit s':>9}{'official s':>12}{'fast s':>8}{'ratios':>14}")
    for task, (score, seconds) in kit.items():
        ours, quick = official[task], fast[task]
        ratios = f"{seconds / ours['prediction_seconds']:.1f} {seconds / quick['prediction_seconds']:.0f}"
        mine = f"{ours['score']:.3f} ± {ours['seed_deviation']:.3f}"
        print(
            f"{task:34}{score:8.3f}{mine:>16}{quick['score']:8.3f}{seconds:9.0f}"
            f"{ours['prediction_seconds']:12.1f}{quick['prediction_seconds']:8.1f}{ratios:>14}"
        )


if __name__ == "__main__":
    main()
