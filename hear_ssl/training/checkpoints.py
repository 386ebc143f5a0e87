"""Checkpoints of a run: written atomically with a checksum, the last one under two names; old ones are removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import TorchCheckpointIO

from hear_ssl.checkpoint import numbered_checkpoints, save_tensors
from hear_ssl.data.stream.worker_watch import WorkerError
from hear_ssl.files import atomic_path, check_zip
from hear_ssl.progress import report
from hear_ssl.training.module import PretrainingModule

LAST = "last.ckpt"


class CheckpointFile(TorchCheckpointIO):
    """Write a checkpoint directly into its folder; Lightning's own class uses memory and a file in $TMPDIR."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint with its checksum, completely or not at all. Raises OSError that names it when the disk is full."""
        save_tensors(checkpoint, path)


class SaveCheckpoints(pl.Callback):
    """Write checkpoints/last.ckpt and its copy step-N.ckpt every `every` steps and at the end, each completely or not at all.

    With `keep` above 0, the newest `keep` numbered checkpoints are kept, and those at multiples of `keep_every` steps and of the best
    probe; the others are removed after the new one is written.
    """

    def __init__(self, run: Path, every: int, keep: int = 0, keep_every: int = 0) -> None:
        self.folder = run / "checkpoints"
        self.every, self.keep, self.keep_every = every, keep, keep_every
        self.saved_step = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save at every multiple of `every` steps."""
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state, finished or stopped."""
        self.save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save when a decoding worker failed, which happens between two steps; not with several ranks, which would wait for this one."""
        if isinstance(exception, WorkerError) and trainer.world_size == 1 and trainer.global_step:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save the current state under both names. Raises OSError when the disk is full; earlier files are kept."""
        step, module = trainer.global_step, trainer.lightning_module
        if step == self.saved_step:
            return
        assert isinstance(module, PretrainingModule)
        module.check_loss()
        with module.step_timer("checkpoint"):
            trainer.save_checkpoint(self.folder / LAST)
            if trainer.is_global_zero:
                numbered = self.folder / f"step-{step:08d}.ckpt"
                with atomic_path(numbered) as temporary:
                    shutil.copyfile(self.folder / LAST, temporary)
                self._remove_old(numbered)
        self.saved_step = step

    def _remove_old(self, newest: Path) -> None:
        old = outdated(numbered_checkpoints(self.folder), self.keep, self.keep_every, best_step(self.folder))
        if old:
            check_zip(newest)
        for path in old:
            path.unlink(missing_ok=True)


def outdated(newest_first: list[Path], keep: int, keep_every: int, best: int) -> list[Path]:
    """Return the numbered checkpoints that `SaveCheckpoints` removes; none when `keep` is 0."""
    older = newest_first[keep:] if keep else []
    return [path for path in older if (step := step_of(path)) != best and not (keep_every and step % keep_every == 0)]


def step_of(path: Path) -> int:
    """Return the step N of a file name step-N.ckpt."""
    return int(path.stem.rpartition("-")[2])


def best_step(folder: Path) -> int:
    """Return the step of the best probe so far, or -1 when there is none."""
    try:
        return int(json.loads((folder / "best.json").read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return -1


def set_aside_later(folder: Path, step: int, resumed: Path | None) -> None:
    """Move numbered checkpoints after `step` to a folder replaced-N, so that further training does not overwrite them.

    When a run resumes from another checkpoint than its last, `last.ckpt` becomes a copy of that checkpoint.
    """
    later = [path for path in numbered_checkpoints(folder) if step_of(path) > step]
    if later:
        number = 1 + max((int(path.name[9:]) for path in folder.glob("replaced-*") if path.name[9:].isdigit()), default=0)
        place = folder / f"replaced-{number}"
        place.mkdir()
        for path in later:
            path.rename(place / path.name)
        report(f"{len(later)} checkpoints after step {step} were moved to {place}")
    if resumed and resumed != folder / LAST:
        with atomic_path(folder / LAST) as temporary:
            shutil.copyfile(resumed, temporary)
