"""The processes of a sweep on this machine: a limited number at once, each with its share of cores and GPUs, all stopped by one signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from hear_ssl.data.stream.forkserver import LEFT_TO_TRAINING
from hear_ssl.errors import one_line
from hear_ssl.machine import give_cores
from hear_ssl.progress import report
from hear_ssl.training.sweep_plan import SweepRun

PAUSE_SECONDS = 0.2
ROOT = Path(__file__).resolve().parents[2]


class Started(Protocol):
    """A started run."""

    def poll(self) -> int | None:
        """Return its exit status, or the negative number of the signal that ended it; None while it runs."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal that makes it save a checkpoint and end."""
        ...


def environment(run: SweepRun) -> dict[str, str]:
    """Return the environment of a run: wandb's group is the sweep, unless the caller's environment names one."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"WANDB_RUN_GROUP": run.run.parent.name, "WANDB_NAME": run.name, **os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}


def launch(run: SweepRun, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start or resume a run that prints to its log. A Ctrl-C in the terminal does not reach it directly: the sweep forwards it."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with open(run.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hear_ssl", "fit", *run.command()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )


class LocalStart:
    """Start runs on this machine, `at_once` of them in parallel."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def __call__(self, run: SweepRun, slot: int) -> Started:
        """Start a run in the slot with this number."""
        variables = environment(run)
        gpus = visible_gpus() if self.at_once > 1 and run.processes == 1 else []
        if len(gpus) > 1:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        process = launch(run, variables)
        give_cores(process.pid, slot, self.at_once)
        return process


def visible_gpus() -> list[str]:
    """Return the GPUs of this process as CUDA_VISIBLE_DEVICES names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(map(str, range(torch.cuda.device_count()))) if given is None else [one for one in given.split(",") if one.strip()]


class Log:
    """The output of a started run: its `new` lines to show, and its `last` line or error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path.stat().st_size if path.is_file() else 0
        self.last = ""

    def new(self) -> Iterator[str]:
        """Yield the complete lines printed since the last call."""
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            file.seek(self.place)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        self.place += len(content)
        for line in map(one_line, filter(str.strip, content.decode("utf-8", "replace").split("\n"))):
            if line.startswith("error: ") or not self.last.startswith("error: "):
                self.last = line
            yield line


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Yield the list of termination signals that arrive while the block runs; only the main thread can receive them."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.getsignal(number) for number in LEFT_TO_TRAINING}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, note)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def carry_out(runs: Sequence[SweepRun], start: Callable[[SweepRun, int], Started], at_once: int) -> tuple[dict[str, str], int]:
    """Start runs, at most `at_once` in parallel; return reasons of failed runs by name, and the signal that stopped all, 0 for none.

    A termination signal is forwarded to the started runs, which save their checkpoints; so is a second one.
    """
    waiting, started, failures = list(runs), dict[int, tuple[SweepRun, Started, Log]](), dict[str, str]()
    with noted_signals() as received:
        passed = 0
        while started or (waiting and not received):
            for slot in range(at_once):
                if waiting and slot not in started and not received:
                    run, log = waiting[0], Log(waiting[0].log)
                    started[slot] = waiting.pop(0), start(run, slot), log
            for number in received[passed:]:
                passed += 1
                for _, process, _ in started.values():
                    process.send_signal(number)
            for slot, (run, process, log) in list(started.items()):
                status = process.poll()
                for line in log.new():
                    report(f"[{run.name}] {line}")
                if status is not None:
                    del started[slot]
                    if status and not received:
                        failures[run.name] = failure(status, log.last)
                        report(f"[{run.name}] failed: {failures[run.name]}")
            time.sleep(PAUSE_SECONDS)
    return failures, received[0] if received else 0


def failure(status: int, last: str) -> str:
    """Return one line on why a run failed, from its exit status and the last line that it printed."""
    number = -status if status < 0 else status - 128
    if number in signal.valid_signals() and number:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"ended by {name}" + (", perhaps for want of memory" if number == signal.SIGKILL else "")
    return last.removeprefix("error: ") or f"exit status {status}"
