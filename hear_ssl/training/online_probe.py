"""The probe during training: a process of low priority scores snapshots of the embedder, and the scores arrive at later steps.

Training only writes the embedder's weights to a file and checks for answers; it waits for them only at its end. A snapshot is
a checkpoint of the embedder alone, which export and evaluation read like any other. The best one becomes checkpoints/best.ckpt.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hear_ssl.checkpoint import EMA, PREFIX, save_tensors
from hear_ssl.errors import one_line
from hear_ssl.evaluation.device import choose_device
from hear_ssl.evaluation.protocol.quick_probe import probe_tasks
from hear_ssl.evaluation.tasks.task_format import audio_folder
from hear_ssl.files import atomic_write
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import VERSION_KEY
from hear_ssl.progress import report, warn
from hear_ssl.training.callbacks import Progress, StopCleanly
from hear_ssl.training.checkpoints import step_of
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.settings import ProbeConfig
from hear_ssl.version import __version__

SERVE = "import os; os.nice(19); from hear_ssl.evaluation.protocol.quick_probe import serve; serve()"  # nice before torch loads
SPARE = Path("probe") / "audio"  # in the run folder: resampled audio of tasks whose folders are read-only
WAITING = 2  # snapshots in the queue; when probes take longer than the steps between them, the oldest is dropped
PATIENCE_SECONDS = 1800.0  # for the last answers at the end of training


def check_probe(config: ProbeConfig, sample_rate: int, seed: int, run: Path) -> None:
    """Read the tasks of the probe. Raises ValueError when they are missing, damaged or not given, or when the device is missing."""
    choose_device(config.device, "probe.device")
    if not config.tasks:
        raise ValueError("probe.every is set, but probe.tasks names no task; give folders of tasks in HEAR format, or probe.every=0")
    for task in probe_tasks(config.tasks, config.clips, config.seconds, seed):
        for split in task.splits:
            audio_folder(task, split, sample_rate, run / SPARE)


class Prober:
    """The process that scores snapshots one after another."""

    def __init__(self, config: ProbeConfig, seed: int, log: Path) -> None:
        """Start the process; its errors are written to `log` in the run folder."""
        self.log = log
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        if choose_device(config.device).type != "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with open(log, "w") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only the training process, which ends this one
            )
        settings = {"folders": [str(Path(folder).resolve()) for folder in config.tasks], "clips": config.clips, "seconds": config.seconds}
        self.send({**settings, "seed": seed, "device": config.device, "spare": str((log.parent / SPARE).resolve())})
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Any) -> None:
        """Write a line to the process; if it has ended, the answer is missing."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put({"ended": f"the probe's process ended by itself; {self.log} has the reason"})

    def end(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.wait()


class OnlineProbe(pl.Callback):
    """Every `every` steps and at the end, send a snapshot to the prober; write its scores to progress line, metrics.csv and loggers."""

    def __init__(self, run: Path, config: ProbeConfig, seed: int, progress: Progress, stop: StopCleanly) -> None:
        self.run, self.config, self.seed = run, config, seed
        self.progress, self.stop = progress, stop
        self.snapshots: list[Path] = []  # the first one is being scored, the others are queued
        self.taken = -1
        self.best = -1.0
        self.prober: Prober | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the prober, first with the snapshots that a stopped run left unscored."""
        if not trainer.is_global_zero:
            return
        self.best = read_best(self.run)
        self.prober = Prober(self.config, self.seed, self.run / "probe.log")
        for path in sorted((self.run / "probe").glob("step-*.ckpt")):
            if step_of(path) <= trainer.global_step:
                self._submit(path)
            else:
                path.unlink()  # training reaches this step again

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record new answers; write a snapshot when one is due."""
        if self.prober is None:
            return
        while self.prober is not None and not self.prober.answers.empty():
            self._take(trainer, self.prober.answers.get())
        if trainer.global_step % self.config.every == 0:
            self._snapshot(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last answers; a stopped run keeps its snapshots for when it resumes."""
        if self.prober is None:
            return
        if self.stop.signal is None:
            self._snapshot(trainer, pl_module)
            deadline = time.monotonic() + PATIENCE_SECONDS
            if self.snapshots and self.prober is not None:
                report(f"waiting for the probe of step {step_of(self.snapshots[-1])}")
            while self.snapshots and self.prober is not None and self.stop.signal is None and time.monotonic() < deadline:
                try:
                    self._take(trainer, self.prober.answers.get(timeout=0.2))
                except queue.Empty:
                    continue
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the process."""
        self._end()

    def _end(self) -> None:
        if self.prober is not None:
            self.prober.end()
            self.prober = None

    def _snapshot(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        if step == self.taken or self.prober is None:
            return
        self.taken = step
        assert isinstance(pl_module, PretrainingModule)
        path = self.run / "probe" / f"step-{step:08d}.ckpt"
        save_tensors(embedder_checkpoint(pl_module, step), path)
        self._submit(path)

    def _submit(self, path: Path) -> None:
        assert self.prober is not None
        self.snapshots.append(path)
        if len(self.snapshots) > 1 + WAITING:
            dropped = self.snapshots.pop(1)
            dropped.unlink(missing_ok=True)
            warn(f"probe of step {step_of(dropped)} left out: probes take longer than probe.every={self.config.every} steps")
        if len(self.snapshots) == 1:
            self.prober.send(str(path.resolve()))

    def _take(self, trainer: pl.Trainer, answer: dict[str, Any]) -> None:
        """Record an answer and submit the next snapshot."""
        if "ended" in answer:
            warn(f"no more probes: {one_line(str(answer['ended']))}")
            self._end()
            return
        path = self.snapshots.pop(0)
        if "error" in answer:
            warn(f"probe of step {step_of(path)} failed: {one_line(str(answer['error']))}")
            path.unlink(missing_ok=True)
        else:
            self._record(trainer, path, answer["scores"])
        if self.snapshots and self.prober is not None:
            self.prober.send(str(self.snapshots[0].resolve()))

    def _record(self, trainer: pl.Trainer, path: Path, scores: dict[str, float]) -> None:
        step, value = step_of(path), scores["probe"]
        self.progress.add(step, scores)
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=step)
        better = value > self.best
        details = "  ".join(f"{name.removeprefix('probe_')} {number:.3f}" for name, number in scores.items() if name != "probe")
        report(f"probe of step {step}: {value:.4f}{' (best)' if better else ''}  {details}")
        self.progress.note = f"  probe {value:.4f} at {step}"
        if better:
            self.best = value
            (self.run / "checkpoints").mkdir(exist_ok=True)  # the first probe may come before the first checkpoint
            os.replace(path, self.run / "checkpoints" / "best.ckpt")
            atomic_write(self.run / "checkpoints" / "best.json", json.dumps({"step": step, **scores}, indent=1))
        else:
            path.unlink()


def embedder_checkpoint(module: PretrainingModule, step: int) -> dict[str, Any]:
    """Return a checkpoint for export and evaluation: the embedder's tensors and averages on the CPU, config and data card."""
    state = {name: value.detach().cpu() for name, value in module.state_dict().items() if name.startswith((PREFIX, EMA))}
    return {
        VERSION_KEY: __version__,
        "state_dict": state,
        "config": to_mapping(module.config),
        "parts": module.config.own_parts(),
        "data_card": module.data_card,
        "global_step": step,
    }


def read_best(run: Path) -> float:
    """Return the probe score of the run's best checkpoint, or -1 when there is none."""
    try:
        best = float(json.loads((run / "checkpoints" / "best.json").read_text())["probe"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return -1.0
    return best if (run / "checkpoints" / "best.ckpt").is_file() else -1.0
