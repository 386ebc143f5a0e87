"""Read a run folder while training may be writing to it: state, config, metrics.

Nothing is locked or written. metrics.csv is read up to its last complete row; all other files are replaced atomically.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hear_ssl.errors import one_line
from hear_ssl.files import read_metrics
from hear_ssl.runs.state import FAILED, FILE, RunState, read_state

MARKS = ("environment.json", FILE)  # files that mark a run folder; training writes the first one at its start
DEPTH = 4  # the search for runs goes this many folders deep
PLACES = ("name", "run", "output")  # config keys for the location of a run, not for its training


@dataclass(frozen=True)
class Run:
    """A run: its folder, state, config by dotted keys (empty before its first step), rows of metrics.csv, and damaged files."""

    path: Path
    state: RunState
    config: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    problems: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The last known step."""
        return max(self.state.step, *(int(row["step"]) for row in self.rows[-1:]), 0)

    @property
    def steps(self) -> int:
        """The number of steps of the whole run, 0 when unknown."""
        value = self.config.get("trainer.steps", "")
        return int(value) if value.isdecimal() else 0

    def column(self, name: str) -> list[tuple[int, float]]:
        """Return the (step, value) pairs of a column of metrics.csv."""
        return [(int(row["step"]), float(row[name])) for row in self.rows if row.get(name)]

    def last(self, name: str) -> float | None:
        """Return the last value of a column, or None."""
        return next((float(row[name]) for row in reversed(self.rows) if row.get(name)), None)

    def best(self, name: str = "probe", lowest: bool = False) -> tuple[int, float] | None:
        """Return step and value of the best row of a column, the first of equal ones, or None."""
        points = self.column(name)
        return (min if lowest else max)(points, key=lambda point: point[1], default=None)

    def usual(self, name: str) -> float | None:
        """Return the median of a column without its first row, which includes the start of workers and compilation."""
        values = [value for _, value in self.column(name)]
        return statistics.median(values[1:] or values) if values else None

    @property
    def hours(self) -> float:
        """The hours of training; `seconds` in metrics.csv restarts when a run is resumed."""
        seconds = [value for _, value in self.column("seconds")]
        ends = [one for one, other in zip(seconds, [*seconds[1:], -1.0], strict=True) if other < one]
        return sum(ends) / 3600.0


def find_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Return the runs in folders, or the folders themselves if they are runs, in the order of their start.

    Raises ValueError when a folder is missing or has no run.
    """
    found: dict[Path, Run] = {}
    for folder in map(Path, folders):
        paths = list(run_folders(folder))
        if not paths:
            there = "holds no run" if folder.is_dir() else "is not a folder"
            raise ValueError(f"{folder} {there}; give a run folder, or the folder of several (training writes to runs/ by default)")
        found |= {path.resolve(): read_run(path) for path in paths if path.resolve() not in found}
    return sorted(found.values(), key=lambda run: (run.state.started, str(run.path)))


def run_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the run folders at and below a folder, without hidden folders and links."""
    if any((folder / mark).is_file() for mark in MARKS):
        yield folder
        return
    try:
        below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and entry.name[0] != ".")
    except OSError:  # not readable, or removed since
        return
    for name in below if depth else ():
        yield from run_folders(folder / name, depth - 1)


def read_run(path: Path) -> Run:
    """Return the content of a run folder; a damaged file counts as missing and is listed in `problems`."""
    problems: list[str] = []

    def attempt(read: Any, missing: Any) -> Any:
        try:
            return read()
        except FileNotFoundError:
            return missing
        except (ValueError, OSError) as error:
            problems.append(one_line(error))
            return missing

    state = attempt(lambda: read_state(path), RunState(FAILED, "state.json is damaged"))
    config = attempt(lambda: read_config(path / "config.yaml"), {})
    rows = attempt(lambda: read_metrics(path / "metrics.csv")[1], [])
    return Run(path, state, config, rows, tuple(problems))


def read_config(path: Path) -> dict[str, str]:
    """Return the resolved config of a run by dotted keys. Raises ValueError that names the file when it is damaged."""
    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if isinstance(content, dict):
            return dict(dotted(content))
        reason = "it is not a mapping"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = one_line(error)[:100]
    raise ValueError(f"{path} is damaged ({reason})")


def dotted(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each scalar and each list of scalars with its dotted key; elements of other lists have their index as key."""
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value))
    if not nested or not value:
        yield prefix, scalar(value)
        return
    for key, element in value.items() if isinstance(value, dict) else enumerate(value):
        yield from dotted(element, f"{prefix}.{key}" if prefix else str(key))


def scalar(value: Any) -> str:
    """Return a value of a config in the form of the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(scalar, value))}]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Return the config keys in which runs differ, in the order of the config, ignoring runs without a config."""
    configs = [run.config for run in runs if run.config]
    keys = dict.fromkeys(key for config in configs for key in config if key not in PLACES)
    return [key for key in keys if len({config.get(key) for config in configs}) > 1]
