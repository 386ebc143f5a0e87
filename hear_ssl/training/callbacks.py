"""Callbacks of the trainer: progress line, metrics.csv, clean stop."""

from __future__ import annotations

import csv
import io
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from hear_ssl import files
from hear_ssl.data.stream.forkserver import LEFT_TO_TRAINING
from hear_ssl.data.stream.workers import kill_workers
from hear_ssl.distributed.gather import gather_constant
from hear_ssl.files import atomic_write, disk_errors_of
from hear_ssl.progress import report
from hear_ssl.training.batch_datamodule import BatchDataModule
from hear_ssl.training.collapse import measures
from hear_ssl.training.delayed_scalar import DelayedScalar
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.second_signal import SecondSignal, is_second

COLLAPSED_REPORTS = 3
SHARES = {"data_wait": "wait", "logging": "logging", "checkpoint": "checkpoint"}  # what a report is late by is in the next one


class StopCleanly(pl.Callback):
    """On Ctrl-C, SIGTERM or SIGUSR1 finish the step, save a checkpoint and end; a second Ctrl-C or SIGTERM ends the run at once.

    own_process: whether this process is only the run, so that a second signal may end it even when its main thread is blocked.
    """

    def __init__(self, own_process: bool = True) -> None:
        self.own_process = own_process
        self.signal: int | None = None
        self.first: dict[int, float] = {}  # when each signal came first
        self.at_once = False
        self.second = SecondSignal()
        self.delayed = DelayedScalar()

    def requested(self) -> bool:
        """Return whether the run should end."""
        return self.signal is not None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers after those of Lightning; only possible in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in LEFT_TO_TRAINING:
            signal.signal(number, self._note)
        if self.own_process:
            self.second.watch()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the run when any rank received a signal: after this step, or with several GPUs one step later, so that no rank waits."""
        noted = self.signal or 0
        if trainer.world_size > 1:
            highest = torch.full((), float(noted), device=pl_module.device)
            torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)  # Lightning's own waits for the device first
            due = self.delayed.swap(highest, trainer.global_step)
            noted = int(due[0]) if due else 0
        if noted:
            self.signal = noted
            trainer.should_stop = True

    def _note(self, number: int, frame: Any) -> None:
        self.at_once = is_second(self.first, number)
        self.signal = self.signal or number
        if self.at_once:
            kill_workers()
            raise KeyboardInterrupt


class Progress(pl.Callback):
    """Every `every` steps, print a line and add a row to metrics.csv, with the shares of time not spent on training."""

    def __init__(self, run: Path, every: int, data: BatchDataModule, collapse_rank: float) -> None:
        self.path = run / "metrics.csv"
        self.data = data
        self.collapse_rank = collapse_rank
        self.collapsed = 0
        self.every = every
        self.note = ""
        self.columns: list[str] = []
        self.ended = self.window_start = self.started = 0.0
        self.window: dict[str, float] = {}
        self.aside = 0.0
        self.window_step = self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop rows after the step from which this run resumes."""
        self.columns, rows = read_metrics(self.path)
        if trainer.is_global_zero:
            self._rewrite([row for row in rows if int(row["step"]) <= trainer.global_step])
        assert isinstance(pl_module, PretrainingModule)
        self.window = dict(pl_module.step_timer.seconds)
        self.aside = outside_waiting(self.window)
        self.ended = self.window_start = self.started = time.perf_counter()
        self.window_step = self.first_step = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the time since the last step, without copies and checkpoints, as waiting for data; count unreadable clips."""
        assert isinstance(pl_module, PretrainingModule)
        step_timer = pl_module.step_timer
        aside = outside_waiting(step_timer.seconds) - self.aside
        step_timer.add({"wait": max(0.0, time.perf_counter() - self.ended - aside), **batch.seconds})
        self.data.count(batch)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report at the first step, then at every multiple of `every`."""
        step = trainer.global_step
        assert isinstance(pl_module, PretrainingModule)
        if step % self.every == 0 or step == self.first_step + 1:
            with pl_module.step_timer("logging"):
                row = self._measure(trainer, pl_module, step)  # on every rank: it gathers
                if trainer.is_global_zero:
                    self._append(row)
                    self._print(trainer, row)
                    for logger in trainer.loggers:
                        logger.log_metrics({name: value for name, value in row.items() if name != "step"}, step=step)
            self._check_collapse(row)
        self.aside = outside_waiting(pl_module.step_timer.seconds)
        self.ended = time.perf_counter()

    def _measure(self, trainer: pl.Trainer, pl_module: PretrainingModule, step: int) -> dict[str, float]:
        pl_module.check_loss()
        now = time.perf_counter()
        elapsed = max(now - self.window_start, 1e-9)
        spent = pl_module.step_timer.since(self.window)
        row = {"step": float(step), **self.data.passes(step)}
        assert pl_module.last_clip is not None
        clip = gather_constant(pl_module.last_clip[:2].transpose(0, 1)).transpose(0, 1)  # (2, batch of all ranks, dim)
        steps, measured = pl_module.step_metrics, measures(clip)
        means = gather_constant(torch.stack([value.float() for value in steps.values()]).unsqueeze(0)).mean(0)
        numbers = torch.cat([means, torch.stack(list(measured.values()))]).tolist()  # the one place where a report waits for the device
        row.update(zip([*steps, *measured], numbers, strict=True))
        row["clips_lost"] = float(self.data.unreadable.report())
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["clips_per_second"] = (step - self.window_step) * self.data.config.batch_size / elapsed
        row.update(pl_module.rates((step - self.window_step) / elapsed))
        row.update({f"{name}_share": min(1.0, spent[stage] / elapsed) for name, stage in SHARES.items()})
        row["seconds"] = now - self.started
        self.window, self.window_start, self.window_step = dict(pl_module.step_timer.seconds), now, step
        return row

    def _print(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        steps, step = int(trainer.max_steps), int(row["step"])
        rate = (step - self.first_step) / max(row["seconds"], 1e-9)
        minutes, second = divmod(int((steps - step) / max(rate, 1e-9)), 60)
        left = f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
        rates = f"  {row['audio_hours_per_second']:.3g} h/s of audio" if "audio_hours_per_second" in row else ""
        rates += f"  MFU {row['mfu']:.1%}" if "mfu" in row else ""
        report(
            f"step {step}/{steps}  loss {row['loss']:.4f}  rank {row['effective_rank']:.1f}  {row['clips_per_second']:.1f} clips/s{rates}"
            f"  data wait {row['data_wait_share']:.0%}  logging {row['logging_share']:.0%}  checkpoint {row['checkpoint_share']:.0%}"
            f"  left {left}{self.note}"
        )

    def _check_collapse(self, row: dict[str, float]) -> None:
        self.collapsed = self.collapsed + 1 if row["effective_rank"] < self.collapse_rank else 0
        if self.collapsed >= COLLAPSED_REPORTS:
            raise ValueError(
                f"the embeddings collapsed: effective rank {row['effective_rank']:.2f} at step {row['step']:.0f}, below"
                f" trainer.collapse_rank {self.collapse_rank:g} in {COLLAPSED_REPORTS} reports; lower the learning rate or change the views"
            )

    def _append(self, row: dict[str, float]) -> None:
        if any(name not in self.columns for name in row):
            self.columns += [name for name in row if name not in self.columns]
            self._rewrite(read_metrics(self.path)[1])
        with disk_errors_of(self.path), open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow({name: _number(value) for name, value in row.items()})

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add later values of an earlier step to its row of metrics.csv, or to a new row."""
        self.columns += [name for name in ("step", *values) if name not in self.columns]
        rows = {int(row["step"]): row for row in read_metrics(self.path)[1]}
        rows.setdefault(step, {"step": str(step)}).update({name: _number(value) for name, value in values.items()})
        self._rewrite([rows[place] for place in sorted(rows)])

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(self.path, text.getvalue() if self.columns else "")


def outside_waiting(seconds: dict[str, float]) -> float:
    """Return the seconds between two steps that were not spent waiting for data."""
    return seconds["copy"] + seconds["checkpoint"]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.8g}"


def read_metrics(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of a metrics.csv: none for a missing or empty file, without an incomplete last row."""
    return files.read_metrics(path)


def resume_line(run: Path, stop: StopCleanly) -> str:
    """Return a line on how the run ended and how to resume it."""
    name = signal.Signals(stop.signal).name if stop.signal else "the end"
    return f"stopped by {name}; saved. Resume with: hear-ssl fit --resume {shlex.quote(str(run))}"
