"""Measure the gain of each speed option on this CPU, for training steps on waveforms in memory: python -m tests.benchmarks.cpu

Two views of 2.08 s, 64 clips, one thread, Lightning's loop without data and logging. Rates are clips per second of the process's CPU
time, which depend less on other programs. Every variant runs in a separate process (the allocator is set once per process); variants
are measured alternately. The output is the median of the rounds, their range and the ratio to the first row of the same round: the same
network without optimisations, in float32, with all tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from hear_ssl.training.config import load_config
from hear_ssl.training.speed import Machine, choose, cpu_bfloat16, keep_memory

VIT = ["encoder={vit: {dim: 192, depth: 12, heads: 3}}"]
KEEP = "views=[{augment: [{keep: {share: 0.3}}]}, {augment: [{keep: {share: 0.3}}]}]"
CONVNEXT = ["encoder={convnext: {depth: 6}}"]
PLAIN, AUTO = ["performance=plain"], ["performance=auto"]
SIDES: dict[str, dict[str, list[str]]] = {
    "audio_ntt": {
        "plain float32": PLAIN,
        "allocator": [*PLAIN, "speed.allocator=true"],
        "channels_last": [*PLAIN, "speed.channels_last=true"],
        "exact: both": ["performance=exact"],
        "auto: both and bf16": AUTO,
    },
    "vit": {
        "plain float32": [*VIT, *PLAIN],
        "allocator": [*VIT, *PLAIN, "speed.allocator=true"],
        "exact: allocator and explicit attention": [*VIT, "performance=exact"],
        "auto: exact and bf16": [*VIT, *AUTO],
        "auto, 30 % of the tokens": [*VIT, *AUTO, KEEP],
    },
    "convnext": {
        "plain float32": [*CONVNEXT, *PLAIN],
        "allocator": [*CONVNEXT, *PLAIN, "speed.allocator=true"],
        "channels_last": [*CONVNEXT, *PLAIN, "speed.channels_last=true"],
        "exact": [*CONVNEXT, "performance=exact"],
        "auto: exact and bf16": [*CONVNEXT, *AUTO],
    },
}


def measure(overrides: list[str], steps: int, clock: Callable[[], float]) -> None:
    """Print the clips/s of `steps` steps after one warm-up step, timed by `clock`."""
    config = load_config(
        None,
        ["data.shards=none", "data.workers=0", "trainer.threads=1", "trainer.accelerator=cpu", "objective.nt_xent.weight=1", *overrides],
    )
    choices = choose(config, Machine("cpu", 1, cpu_bfloat16()))
    if choices.allocator:
        keep_memory()
    import pytorch_lightning as pl
    import torch

    from hear_ssl.data.stream.batch import Batch
    from hear_ssl.training.module import PretrainingModule
    from hear_ssl.training.trainer import apply

    class Times(pl.Callback):
        times: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, *_: object) -> None:
            self.times.append(clock())

    torch.manual_seed(0)
    rows = config.data.batch_size
    batch = Batch([torch.randn(rows, 2, round(config.data.crops[0].seconds * 16000)) * 0.1], torch.arange(rows), [])

    class Same(torch.utils.data.IterableDataset[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            while True:
                yield batch

    module = PretrainingModule(config)
    apply(choices, module)
    taken = Times()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps + 1,
        precision="bf16-mixed" if choices.precision == "bf16" else "32-true",
        logger=False,
        callbacks=[taken],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(Same(), batch_size=None))
    print(json.dumps(rows * steps / (taken.times[-1] - taken.times[0])))


def run(overrides: list[str], steps: int, wall: bool = False) -> float:
    """Return the clips/s of a variant in a separate process, by CPU time or wall time."""
    command = [sys.executable, "-W", "ignore", __file__, "--side", json.dumps(overrides), "--steps", str(steps)]
    command += ["--wall"] if wall else []
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def main() -> None:
    """Print a table for every encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of every variant in a round")
    parser.add_argument("--side", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--wall", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        measure(arguments.side, arguments.steps, time.perf_counter if arguments.wall else time.process_time)
        return
    for encoder in arguments.encoders:
        sides = SIDES[encoder]
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, overrides in sides.items():
                rates[name].append(run(overrides, arguments.steps))
        base = next(iter(rates.values()))
        title = f"{encoder}, {cpu_bfloat16() or 'no fast bfloat16'}"
        print(f"\n| {title} | clips per CPU-second, median (range) | relative to plain |\n|---|---|---|")
        for name, values in rates.items():
            ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
            print(f"| {name} | {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f}) | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
