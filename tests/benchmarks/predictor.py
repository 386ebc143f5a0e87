"""Measure milliseconds per step of the predictor with matrix products of oneDNN and of torch.mm: python -m tests.benchmarks.predictor

CPU time, one thread, measured alternately; medians of the rounds and the range of their ratio. `predictor.ONEDNN` is whether this
processor uses oneDNN.
"""

from __future__ import annotations

import statistics
import time

import torch

from hear_ssl.evaluation.protocol import predictor
from hear_ssl.evaluation.protocol.predictor import Predictor, PredictorSettings, RowBatch, reuse_memory

SIZES = ((292, 192, 1), (292, 192, 2), (1024, 192, 2), (1024, 320, 1), (1024, 320, 2), (1024, 2432, 1))
ROUNDS, STEPS, LABELS = 6, 5, 9


def step_ms(batch: RowBatch, layers: int) -> float:
    """Return the CPU milliseconds of a training step."""
    network = Predictor(batch.rows.shape[1], LABELS, PredictorSettings(hidden_layers=layers), False, 0)
    network.step(batch)
    begin = time.process_time()
    for _ in range(STEPS):
        network.step(batch)
    return 1000.0 * (time.process_time() - begin) / STEPS


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    reuse_memory()
    chosen = "oneDNN" if predictor.ONEDNN else "torch.mm"
    print(f"this processor ({torch.backends.cpu.get_cpu_capability()}) gets {chosen}\n")
    print("| rows, embedding, hidden layers | oneDNN, ms | torch.mm, ms | ratio |\n" + "|---" * 4 + "|")
    for rows, dim, layers in SIZES:
        targets = torch.nn.functional.one_hot(torch.arange(rows) % LABELS, LABELS).float()
        batch = RowBatch.split(torch.randn(rows, dim), targets, rows)[0]
        measured: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            pair = []
            for predictor.ONEDNN in (True, False):
                pair.append(step_ms(batch, layers))
            measured.append((pair[0], pair[1]))
        medians = [statistics.median(column) for column in zip(*measured, strict=True)]
        ratios = [one / other for one, other in measured]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {rows}, {dim}, {layers} | {medians[0]:.1f} | {medians[1]:.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
