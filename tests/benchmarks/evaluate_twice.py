"""Time evaluation commands: a first and a second model on the same tasks, and embedding on one and on two cores.

python -m tests.benchmarks.evaluate_twice --modules RUN OTHER --tasks TASKS [--grid few-shot] [--repeats 3]

Baselines are cached in a new folder, so that the first evaluation scores them and the second finds them. Wall seconds are the minimum
of the repeats, since other programs can only increase them; CPU seconds are those of the same repeat. Embedding is timed in
evaluations without baselines, alternately on one core and on two.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def evaluate(module: str, tasks: str, grid: str, out: Path, kept: Path, cores: set[int], *options: str) -> tuple[float, float]:
    """Return the wall and CPU seconds of one evaluation on some cores."""
    command = [
        sys.executable,
        "-m",
        "hear_ssl",
        "evaluate",
        "--module",
        module,
        "--tasks",
        tasks,
        "--grid",
        grid,
        "--out",
        str(out),
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"HEAR_BASELINES_CACHE": str(kept), "PYTHONPATH": str(ROOT)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def embedding_seconds(out: Path) -> float:
    """Return the seconds that an evaluation of one model spent on embeddings."""
    record = json.loads((out / "scores.json").read_text())
    return float(sum(result["embedding_seconds"] for results in record["tasks"].values() for result in results.values()))


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs=2, required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--grid", default="few-shot")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    first, second = arguments.modules
    times: dict[str, list[tuple[float, float]]] = {"first model": [], "second model": []}
    embedding: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for name, module in (("first model", first), ("second model", second)):
                found = evaluate(module, arguments.tasks, arguments.grid, place / name[:5], place / "kept", set(cores))
                times[name].append(found)
            for count in (1, 2):
                out = place / f"cores-{count}"
                evaluate(first, arguments.tasks, "few-shot", out, place / "none", set(cores[:count]), "--baselines", "none")
                embedding[count].append(embedding_seconds(out))
    for name, measured in times.items():
        wall, cpu = min(measured)
        print(f"{name}: {wall:.1f} s, {cpu:.1f} CPU seconds")
    print(f"second / first: {min(times['second model'])[0] / min(times['first model'])[0]:.2f}")
    for count, seconds in embedding.items():
        print(f"embedding on {count} cores: {min(seconds):.2f} s of {', '.join(f'{one:.2f}' for one in seconds)}")
    print(f"one / two cores: {min(embedding[1]) / min(embedding[2]):.2f}")


if __name__ == "__main__":
    main()
