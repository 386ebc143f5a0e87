"""The state of a run, from state.json, which training writes, and from the lock of the folder.

state.json is written when training begins and when it ends. In between, its modification time is a heartbeat, which training renews every
HEARTBEAT_SECONDS. When a process is killed, its lock is released at once and its heartbeat is overdue after STALE_SECONDS.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_ssl.files import read_json
from hear_ssl.folder_lock import is_held

FILE = "state.json"
RUNNING, DONE, STOPPED, FAILED, STALE = STATES = ("running", "done", "stopped", "failed", "stale")
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 120.0  # several heartbeats, for a busy file server


@dataclass(frozen=True)
class RunState:
    """The state of a run: one of STATES, why it ended, its last step (-1 when not recorded), Unix times of start and end, or 0."""

    state: str
    reason: str = ""
    step: int = -1
    started: float = 0.0
    ended: float = 0.0


def read_state(run: Path) -> RunState:
    """Return the state of a run folder. Raises ValueError that names state.json when it is damaged.

    A run is `running` while a process has locked its folder. Without a lock, a run without a recorded end is `stale`; on another
    machine, whose locks may be invisible here, it is `running` as long as it has a heartbeat.
    """
    path = run / FILE
    try:
        age, record = time.time() - path.stat().st_mtime, read_json(path)
    except FileNotFoundError:  # of a version before 0.4, or not started yet
        return RunState(RUNNING if is_held(run) else STALE, "no state.json")
    found = checked(path, record)
    if found.state != RUNNING:
        return found
    held = is_held(run)
    here = record.get("host") == socket.gethostname()
    if held or (age < STALE_SECONDS and (held is None or not here)):
        return found
    reason = f"no heartbeat for {duration(age)}" if age >= STALE_SECONDS else f"its process {record.get('pid')} has ended"
    return RunState(STALE, reason, found.step, found.started, found.ended or path.stat().st_mtime)


def checked(path: Path, record: Any) -> RunState:
    """Return the state in a state.json. Raises ValueError that names the file when it is not a state."""
    known = isinstance(record, dict) and record.get("state") in STATES and isinstance(record.get("reason"), str)
    if not known or any(type(record.get(name)) not in (int, float) for name in ("step", "started", "ended")):
        raise ValueError(f"{path} is damaged (it contains no state of a run); remove it, nothing else is lost")
    return RunState(record["state"], record["reason"], int(record["step"]), float(record["started"]), float(record["ended"]))


def state_record(state: RunState) -> dict[str, Any]:
    """Return a state in the form of state.json, with the host and the process that write it."""
    return {**vars(state), "host": socket.gethostname(), "pid": os.getpid()}


def duration(seconds: float) -> str:
    """Return a time span in its largest unit, such as 12 min."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
