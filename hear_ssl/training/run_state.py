"""What a run records of itself in state.json: that it trains, and how it ended."""

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
    """Follow the step of a run, and record that it trains once its first step is due: until then a resumed run may be refused."""

    def __init__(self, run: Path) -> None:
        self.path = run / FILE
        self.step, self.started, self.training = -1, time.time(), False
        self.ended = threading.Event()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record that the run trains."""
        self.step = trainer.global_step
        self.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the step."""
        self.step = trainer.global_step

    def begin(self) -> None:
        """Record that the run trains, from the first of several ranks, and renew the heartbeat until `end`."""
        if process_rank() or self.training:
            return
        self.training = True
        self._write(RunState(RUNNING, "", self.step, self.started))
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self, state: str, reason: str = "") -> None:
        """Record how the run ended, unless it was refused before its first step: then its earlier end stays on record."""
        self.ended.set()
        if not self.training:
            return
        try:
            self._write(RunState(state, reason, self.step, self.started, time.time()))
        except OSError as error:  # what ended the run matters more
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
    """Give what records the state of a run while the block trains; an exception ends the run as stopped or failed.

    A run that resumes is recorded as running from its first step on.
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
    """Return the Unix time at which a run that resumes was first started, `now` when that is not on record."""
    try:
        return read_state(run).started or now
    except ValueError:  # damaged, and written anew
        return now


def record_end(record: RecordState, stopped_by: int) -> int:
    """Record the end of a run by the number of the signal that stopped it, 0 when it is done, and return the number."""
    record.end(STOPPED if stopped_by else DONE, signal.Signals(stopped_by).name if stopped_by else "")
    return stopped_by
