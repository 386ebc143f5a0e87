"""fit.py from FLAC shards beside the bare training step: python tests/benchmarks/endtoend.py SHARDS [--rounds 2]

The bare step trains on waveforms in memory (tests/benchmarks/cpu.py). fit.py reads, decodes, logs and saves. Both run with one thread
of torch by the wall's clock; fit.py has one decoding worker, on the second core. They take turns. `start` is from the command to the
end of the first step; the shares are fit.py's own account, from metrics.csv.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hear_ssl.callbacks import read_rows
from tests.benchmarks.cpu import VIT, run

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"audio_ntt": ["performance=auto"], "vit, 30 % of the tokens": [*VIT, "performance=auto", "embedder.encoder.keep=0.3"]}
SHARES = ("data_wait_share", "logging_share", "checkpoint_share")


def train(shards: str, overrides: list[str], steps: int, folder: Path) -> tuple[float, float, list[float]]:
    """Return clips/s behind the first step, seconds to the end of the first step, and the mean shares."""
    options = [f"data.shards={shards}", "data.workers=1", "trainer.threads=1", "trainer.accelerator=cpu", f"trainer.steps={steps}"]
    options += ["trainer.log_every=5", f"trainer.checkpoint_every={max(steps // 2, 1)}", f"run={folder}", *overrides]
    (folder.parent / "empty.yaml").write_text("{}\n")
    command = [sys.executable, "-u", "train/fit.py", "--config", str(folder.parent / "empty.yaml"), *options]
    begin, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            first = first or (time.perf_counter() - begin if line.startswith("step 1/") else 0.0)
    rows = read_rows(folder / "metrics.csv")[1]
    seconds = float(rows[-1]["seconds"]) - float(rows[0]["seconds"])
    rate = (int(rows[-1]["step"]) - int(rows[0]["step"])) * 64 / seconds
    return rate, first, [statistics.fmean(float(row[name]) for row in rows[1:]) for name in SHARES]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=26)
    arguments = parser.parse_args()
    print("| | bare step, clips/s | fit.py, clips/s | ratio | start, s | data wait | logging | checkpoint |\n" + "|---" * 8 + "|")
    for name, overrides in SIDES.items():
        bare, whole, starts, shares = [], [], [], []
        for _ in range(arguments.rounds):
            bare.append(run(overrides, 8, wall=True))
            with tempfile.TemporaryDirectory() as scratch:
                rate, first, spent = train(arguments.shards, overrides, arguments.steps, Path(scratch) / "run")
            whole.append(rate)
            starts.append(first)
            shares.append(spent)
        ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
        accounted = " | ".join(f"{statistics.fmean(column):.1%}" for column in zip(*shares, strict=True))
        print(
            f"| {name} | {statistics.median(bare):.1f} | {statistics.median(whole):.1f} | {ratio:.2f} | {statistics.median(starts):.1f}"
            f" | {accounted} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
