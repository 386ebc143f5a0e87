"""Compare fit.py on FLAC shards with the training step alone: python -m tests.benchmarks.endtoend SHARDS [--rounds 3] [--workers 1]

The training step alone uses waveforms in memory (tests/benchmarks/cpu.py). fit.py reads, decodes, logs every 20 steps and saves once.
Both use one torch thread and are measured alternately; ratios are medians over the rounds. Rates are per CPU time of the process and
its child processes, which depends less on other programs; with --wall they are per wall time, for an idle machine. On one core use
--workers 0, since a decoding worker needs its own core. `start` is the CPU time, and the wall time, from the command to the end of the
first step. The shares are those in metrics.csv; `other` is the rest of 1 - ratio. The last line is the time of fit.py --help.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hear_ssl.training.callbacks import read_metrics
from tests.benchmarks.cpu import KEEP, VIT, run

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"audio_ntt": ["performance=auto"], "vit, 30 % of the tokens": [*VIT, "performance=auto", KEEP]}
SHARES = ("data_wait_share", "logging_share", "checkpoint_share")


def tree_seconds(process: int) -> float:
    """Return the CPU seconds of a process and all its descendants, including those that have ended."""
    ticks: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(path.parent.name)] = int(fields[1])
        ticks[int(path.parent.name)] = sum(map(float, fields[11:15]))

    def within(number: int) -> bool:
        return number == process or (number in parents and within(parents[number]))

    return sum(spent for number, spent in ticks.items() if within(number)) / os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """A run of fit.py: clips/s after the first step, CPU and wall seconds to the end of the first step, shares of the time."""

    rate: float
    start: float
    start_wall: float
    shares: list[float]


def train(shards: str, overrides: list[str], steps: int, workers: int, folder: Path, wall: bool) -> Run:
    """Train by fit.py and return its measurements."""
    options = [f"data.shards={shards}", f"data.workers={workers}", "trainer.threads=1", "trainer.accelerator=cpu", f"trainer.steps={steps}"]
    options += ["trainer.log_every=20", f"trainer.checkpoint_every={max(steps // 2, 1)}", f"run={folder}", *overrides]
    (folder.parent / "nt_xent.yaml").write_text("objective: {nt_xent: {weight: 1}}\n")
    command = [sys.executable, "-u", "train/fit.py", "--config", str(folder.parent / "nt_xent.yaml"), *options]
    begin, marks = time.perf_counter(), []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):
                marks.append((time.perf_counter(), tree_seconds(process.pid), int(line.split()[1].partition("/")[0])))
    rows = read_metrics(folder / "metrics.csv")[1]
    spent = marks[-1][0 if wall else 1] - marks[0][0 if wall else 1]
    shares = [statistics.fmean(float(row[name]) for row in rows[1:]) for name in SHARES]
    return Run((marks[-1][2] - marks[0][2]) * 64 / spent, marks[0][1], marks[0][0] - begin, shares)


def help_seconds() -> float:
    """Return the seconds of fit.py --help."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "train/fit.py", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--wall", action="store_true")
    arguments = parser.parse_args()
    head = ("", "step alone, clips/s", "fit.py, clips/s", "ratio", "start, CPU s (wall s)", "data wait", "logging", "checkpoint", "other")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, overrides in SIDES.items():
        bare, whole = [], []
        for _ in range(arguments.rounds):
            bare.append(run(overrides, 8, arguments.wall))
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "run"
                whole.append(train(arguments.shards, overrides, arguments.steps, arguments.workers, folder, arguments.wall))
        ratios = [one.rate / other for one, other in zip(whole, bare, strict=True)]
        ratio = statistics.median(ratios)
        means = [statistics.fmean(column) for column in zip(*(one.shares for one in whole), strict=True)]
        start = f"{statistics.median(one.start for one in whole):.1f} ({statistics.median(one.start_wall for one in whole):.1f})"
        accounted = " | ".join(f"{share:.1%}" for share in (*means, 1.0 - ratio - sum(means)))
        rates = f"{statistics.median(bare):.1f} | {statistics.median(one.rate for one in whole):.1f}"
        print(f"| {name} | {rates} | {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {start} | {accounted} |", flush=True)
    print(f"fit.py --help {statistics.median(help_seconds() for _ in range(3)):.2f} s")


if __name__ == "__main__":
    main()
