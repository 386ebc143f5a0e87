"""`profile=true`: a table of the time of each stage of a step, and a trace of three steps to open in a browser (ui.perfetto.dev)."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.profiler import ProfilerActivity, profile

from hear_ssl.files import atomic_path, atomic_write
from hear_ssl.progress import report
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.step_timer import STAGES, WORKER_STAGES

WARM_UP, TRACED = 2, 3  # steps that are not counted, and steps in the trace, which tracing slows down


class ProfileSteps(pl.Callback):
    """Synchronise the device after every stage, so that each stage gets its own time; trace three steps and count the others."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.first = self.counted_from = 0
        self.tracer: Any = None
        self.started = 0.0
        self.before: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting; the counts are reset after the traced steps."""
        assert isinstance(pl_module, PretrainingModule)
        pl_module.step_timer.exact = True
        self.first = trainer.global_step
        self._count_from(pl_module, self.first)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the trace after the warm-up."""
        if trainer.global_step == self.first + WARM_UP and trainer.is_global_zero:
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self.tracer = profile(activities=kinds)
            self.tracer.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the trace after its last step, and restart counting."""
        assert isinstance(pl_module, PretrainingModule)
        if trainer.global_step == self.first + WARM_UP + TRACED:
            self._end_trace()
            self._count_from(pl_module, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and print the table."""
        assert isinstance(pl_module, PretrainingModule)
        self._end_trace()
        steps = trainer.global_step - self.counted_from
        if not trainer.is_global_zero or not steps:
            return
        elapsed = time.perf_counter() - self.started
        rows = stage_rows(pl_module.step_timer.since(self.before), elapsed, steps)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(self.run / "profile.csv", text.getvalue())
        report(f"where the time of a step goes ({steps} steps; trace.json.gz has {TRACED} of them call by call):")
        for row in rows:
            report(f"  {row['stage']:<12}{float(row['ms_per_step']):10.2f} ms  {row['share_of_step']:>6}  {row['process']}")

    def _count_from(self, module: PretrainingModule, step: int) -> None:
        self.counted_from, self.started, self.before = step, time.perf_counter(), dict(module.step_timer.seconds)

    def _end_trace(self) -> None:
        if self.tracer is not None:
            self.tracer.stop()
            with atomic_path(self.run / "trace.json.gz") as temporary:
                whole = temporary.with_suffix(".json.gz")  # the profiler compresses files with this suffix
                self.tracer.export_chrome_trace(str(whole))
                whole.replace(temporary)
            self.tracer = None


def stage_rows(seconds: dict[str, float], elapsed: float, steps: int) -> list[dict[str, str]]:
    """Return one row per stage for `steps` steps that took `elapsed` seconds: milliseconds per step and share of a step.

    The stages of workers run in parallel with the step; `data_wait` is the part of them that delays the step. The rows of the training
    process and `other` sum to the whole.
    """
    spent = {name: seconds[name] for name in STAGES}
    lines = [("step", elapsed, "whole"), *((name, seconds[name], "workers") for name in WORKER_STAGES)]
    lines += [(name, value, "training") for name, value in spent.items()]
    lines.append(("other", elapsed - sum(spent.values()), "training"))
    return [
        {"stage": name, "process": process, "ms_per_step": f"{1000.0 * value / steps:.3f}", "share_of_step": f"{value / elapsed:.1%}"}
        for name, value, process in lines
    ]
