"""The state of a run in state.json: that it is training, and how it ended."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from hear_ssl.errors import one_line
from hear_ssl.files import atomic_write
from hear_ssl.progress import warn
from hear_ssl.runs.state import DONE, FAILED, FILE, HEARTBEAT_SECONDS, RUNNING, STOPPED, RunState, read_state, state_record
from hear_ssl.training.batch_datamodule import process_rank


class RecordState(pl.Callback):
    """Record the state of a run from its first step on; before that, checks may still refuse to resume it."""

    def __init__(self, run: Path) -> None:
        self.path = run / FILE
        self.step, self.started, self.training = -1, time.time(), False
        self.ended = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record that the run is training."""
        self.step = trainer.global_step
        self.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the step."""
        self.step = trainer.global_step

    def begin(self) -> None:
        """Record that the run is training, on the first rank, and renew the heartbeat until `end`."""
        if process_rank() or self.training:
            return
        self.training = True
        self._write(RunState(RUNNING, "", self.step, self.started))
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self, state: str, reason: str = "") -> None:
        """Record how the run ended, unless it was refused before its first step; then its earlier end is kept."""
        self.ended.set()
        if not self.training:
            return
        try:
            self._write(RunState(state, reason, self.step, self.started, time.time()))
        except OSError as error:  # must not hide the error that ended the run
            warn(f"the end of the run is not on record: {one_line(error)}", aside=True)

    def _write(self, state: RunState) -> None:
        atomic_write(self.path, json.dumps(state_record(state), indent=1))

    def _beat(self) -> None:
        while not self.ended.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError as error:
                warn(f"no more heartbeats: {self.path}: {error.strerror}; the run itself continues", aside=True)
                return


@contextmanager
def recorded_state(run: Path, resume: bool) -> Iterator[RecordState]:
    """Yield the recorder of a run's state while the block trains; an exception ends the run as stopped or failed.

    A resumed run is recorded as running from its first step on.
    """
    record = RecordState(run)
    try:
        if resume:
            record.started = first_start(run, record.started)
        else:
            record.begin()
        yield record
    except (KeyboardInterrupt, SystemExit):
        record.end(STOPPED, "ended at once, not saved")
        raise
    except BaseException as error:
        record.end(FAILED, one_line(error)[:500])
        raise


def first_start(run: Path, now: float) -> float:
    """Return the Unix time at which a resumed run was first started, or `now` when that is not recorded."""
    try:
        return read_state(run).started or now
    except ValueError:  # damaged; it is written again
        return now


def record_end(record: RecordState, stopped_by: int) -> int:
    """Record the end of a run with the number of the signal that stopped it, 0 when it is done; return that number."""
    record.end(STOPPED if stopped_by else DONE, signal.Signals(stopped_by).name if stopped_by else "")
    return stopped_by
