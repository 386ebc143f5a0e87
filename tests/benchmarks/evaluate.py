"""Compare the official kit and ours on the same tasks and core: scores, seconds of embedding and of prediction, ratios.

python -m tests.benchmarks.evaluate --kit KIT --python PYTHON --tasks TASKS --module NAME --out OUT [--path FOLDER] [--points 8]
    [--kit-seeds 42 43 44] [--seeds 3] [--only NAME]

KIT is the folder of heareval_compat.py and its shims, PYTHON the interpreter with heareval 2021.1.3, NAME a HEAR module
(hear_ssl.evaluation.baselines for log-mel statistics), FOLDER the folder from which it is imported. Seconds are CPU time, so that other
programs do not count; those of the kit exclude its start (imports, measured as --help), ours have none. Results in OUT are not computed
again, so the same command resumes after an interruption, or prints the table of a finished comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEEDED = """
import runpy, sys, numpy, torch, pytorch_lightning as pl
plain, seed = pl.seed_everything, int(sys.argv[1])
def seeded(asked, workers=False):
    plain(asked, workers=workers)  # the order of the grid stays the kit's own
    if seed != asked:
        torch.manual_seed(seed)
        numpy.random.seed(seed)
pl.seed_everything = seeded
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Kit:
    """The official kit, in one process per call."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.folder = arguments, Path(arguments.kit).resolve()
        self.out = Path(arguments.out).resolve() / "kit"
        self.out.mkdir(parents=True, exist_ok=True)
        self.start = {command: self._seconds("start", 42, command, "--help") for command in ("embeddings", "predictions")}

    def _seconds(self, log: str, seed: int, *command: str) -> float:
        """Run a command and return its CPU seconds. Raises RuntimeError with the end of its log when it fails."""
        path = f"{self.folder / 'shims'}:{self.arguments.path}"
        environment = {**os.environ, "PYTHONPATH": path, "HC_QUIET": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(self.out / f"{log}.log", "w") as file:
            compat = str(self.folder / "heareval_compat.py")
            line = [self.arguments.python, "-c", SEEDED, str(seed), compat, *command]
            status = subprocess.run(line, cwd=self.out, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if status:
            raise RuntimeError((self.out / f"{log}.log").read_text()[-2000:])
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def embed(self, task: Path) -> dict[str, float]:
        """Embed a task; return the CPU seconds."""
        options = ["--tasks-dir", str(task.parent), "--task", task.name, "--embeddings-dir", "embeddings"]
        seconds = self._seconds(f"{task.name}-embeddings", 42, "embeddings", self.arguments.module, *options)
        return {"embedding": seconds - self.start["embeddings"]}

    def predict(self, task: Path, seed: int) -> dict[str, float]:
        """Predict from embeddings made before; return primary score and CPU seconds."""
        folder = self.out / "embeddings" / self.arguments.module / task.name
        (folder / "prediction-done.json").unlink(missing_ok=True)
        options = [f"embeddings/{self.arguments.module}/{task.name}", "--grid-points", str(self.arguments.points)]
        seconds = self._seconds(f"{task.name}-{seed}", seed, "predictions", *options) - self.start["predictions"]
        record = json.loads((folder / "test.predicted-scores.json").read_text())
        primary = json.loads((folder / "task_metadata.json").read_text())["evaluation"][0]
        scores = record.get("aggregated_scores") or record["test"]
        key = next(key for key in (f"test_{primary}_mean", f"test_{primary}") if key in scores)
        return {"score": scores[key], "prediction": seconds}


class Ours:
    """Our evaluation, in this process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from hear_ssl.evaluation.model_under_test import load_model_under_test
        from hear_ssl.evaluation.protocol import grid

        grid.GRID_POINTS = arguments.points
        self.out = Path(arguments.out).resolve() / "embeddings"
        self.subject = load_model_under_test(arguments.module)

    def embed(self, folder: Path) -> dict[str, float]:
        """Embed a task, or use cached embeddings; return the CPU seconds."""
        start = time.process_time()
        self._rows(folder)
        return {"embedding": time.process_time() - start}

    def _rows(self, folder: Path) -> tuple[Any, Any]:
        from hear_ssl.evaluation.protocol.embed import task_rows
        from hear_ssl.evaluation.tasks.task_format import read_task

        task = read_task(folder)
        return task, task_rows(task, self.subject, self.out)

    def predict(self, folder: Path, grid: str, seed: int) -> dict[str, float]:
        """Predict from cached embeddings; return primary score and CPU seconds."""
        from hear_ssl.evaluation.protocol.score_task import score_task

        task, rows = self._rows(folder)
        start = time.process_time()
        result = score_task(task, rows, grid, 42 + seed)
        return {"score": result["scores"][result["primary"]], "prediction": time.process_time() - start}


def measured(record: dict[str, Any], path: Path, name: str, run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return an entry of a record; if it is missing, run it and write the record."""
    if name not in record:
        record[name] = run()
        path.write_text(json.dumps(record, indent=1))
        print(f"{path.stem}: {name} {record[name]}", file=sys.stderr, flush=True)
    entry: dict[str, float] = record[name]
    return entry


def compare(task: Path, kit: Kit, ours: Ours, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the entries of each side for a task; the sides alternate, seed by seed."""
    path = Path(arguments.out) / f"{task.name}.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    sides: dict[str, list[dict[str, float]]] = {name: [] for name in ("kit", "official", "fast")}
    sides["embedding"] = [
        measured(record, path, "kit embedding", lambda: kit.embed(task)),
        measured(record, path, "our embedding", lambda: ours.embed(task)),
    ]
    for place in range(max(len(arguments.kit_seeds), arguments.seeds)):
        if place < len(arguments.kit_seeds):
            seed = arguments.kit_seeds[place]
            sides["kit"].append(measured(record, path, f"kit {seed}", lambda seed=seed: kit.predict(task, seed)))  # type: ignore[misc]
        for grid in ("official", "fast") if place < arguments.seeds else ():
            run = lambda grid=grid, place=place: ours.predict(task, grid, place)  # noqa: E731
            sides[grid].append(measured(record, path, f"{grid} {place}", run))
    return sides


def line(task: str, sides: dict[str, list[dict[str, float]]]) -> str:
    """Return a task's line of the table: scores as mean ± spread over seeds, seconds as the median over seeds."""
    if not all(sides.values()):
        return f"| {task} | with --seeds 0 or no --kit-seeds there is nothing to compare |"
    scores, seconds = {}, {}
    for side in ("kit", "official", "fast"):
        values = [entry["score"] for entry in sides[side]]
        scores[side] = f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")
        seconds[side] = statistics.median(entry["prediction"] for entry in sides[side])
    theirs, mine = (entry["embedding"] for entry in sides["embedding"])
    cells = [f"{task}", *scores.values(), f"{theirs:.1f} : {mine:.1f}", *(f"{value:.1f}" for value in seconds.values())]
    cells += [f"{seconds['kit'] / seconds['official']:.1f}", f"{seconds['kit'] / seconds['fast']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--path", default=str(ROOT))
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kit-seeds", type=int, nargs="*", default=[42])
    parser.add_argument("--only", action="append")
    arguments = parser.parse_args()
    arguments.path = os.path.realpath(arguments.path)
    sys.path[:0] = [arguments.path, str(ROOT)]
    from hear_ssl.evaluation.tasks.task_format import find_tasks

    kit, ours = Kit(arguments), Ours(arguments)
    tasks = find_tasks(Path(arguments.tasks).resolve(), arguments.only)
    lines = [line(task.name, compare(task, kit, ours, arguments)) for task in tasks]
    print("| task | kit | official | fast | embedding, kit : ours (s) | kit (s) | official (s) | fast (s) | times official | times fast |")
    print("|" + "---|" * 10)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
