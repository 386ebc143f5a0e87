"""Tables of runs on the terminal and as CSV, and the best run."""

from __future__ import annotations

import csv
import io
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import nearest, printable
from hear_ssl.files import atomic_write
from hear_ssl.runs.run_folder import Run, differing_keys
from hear_ssl.runs.state import FAILED, RUNNING, STALE, duration

INDENT = " " * 4
PROBED = ("probe.tasks", "probe.clips", "probe.seconds")  # probes cannot be compared between runs that differ in these


def list_lines(runs: Sequence[Run], now: float | None = None, width: int = 0) -> list[str]:
    """Return the table of runs: state, steps, rate, probe scores and differing config keys, and the reasons of failed runs.

    width: columns of the terminal; if the table is wider, the keys are on lines below each run. 0: no terminal.
    """
    keys = differing_keys(runs)
    head = ["run", "state", "step", "clips/s", "probe", "best (at step)", "started", "differs in"]
    rows = [
        [
            str(run.path),
            run.state.state,
            f"{run.step}/{run.steps or '?'}",
            number(run.usual("clips_per_second"), ".1f"),
            number(run.last("probe"), ".4f"),
            "-" if (best := run.best()) is None else f"{best[1]:.4f} ({best[0]})",
            f"{duration((now or time.time()) - run.state.started)} ago" if run.state.started else "-",
            " ".join(f"{key}={run.config[key]}" for key in keys if key in run.config),
        ]
        for run in runs
    ]
    reasons = [f"{run.path}: {run.state.state}: {run.state.reason}" for run in runs if run.state.state in (FAILED, STALE)]
    lines = aligned([head, *rows])
    if width and max(map(len, lines)) > width:
        shorter = aligned([row[:-1] for row in [head, *rows]])
        wrapper = textwrap.TextWrapper(
            width, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
        )
        below = [wrapper.wrap(row[-1]) for row in [head, *rows]]
        lines = [line for short, keys_of_run in zip(shorter, below, strict=True) for line in (short, *keys_of_run)]
    return [printable(line) for line in [*lines, *reasons]]


def aligned(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as lines with left-aligned columns, separated by two spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def number(value: float | None, form: str, none: str = "-") -> str:
    """Return a formatted number, or `none` for None."""
    return none if value is None else format(value, form)


def best_run(runs: Sequence[Run], column: str = "probe", lowest: bool = False) -> tuple[Run, int, float]:
    """Return the run with the best value in a column of metrics.csv, the step of that value, and the value.

    Raises ValueError when no run has the column, or the probes of the runs use different clips.
    """
    having = [(run, best) for run in runs if (best := run.best(column, lowest)) is not None]
    if not having:
        columns = list(dict.fromkeys(name for run in runs for row in run.rows[-1:] for name in row))
        raise ValueError(
            f"no run has the column {column} in metrics.csv{nearest(column, columns)}; there are {', '.join(columns) or 'none'}"
        )
    unlike = next((key for key in PROBED if len({run.config.get(key) for run, _ in having}) > 1), None)
    if unlike and column.startswith("probe"):
        raise ValueError(f"the runs differ in {unlike}, so that their {column} cannot be compared; give a folder of runs with one probe")
    run, (step, value) = (min if lowest else max)(having, key=lambda pair: pair[1][1])
    return run, step, value


def best_weights(run: Run, step: int, column: str) -> Path:
    """Return the checkpoint for a value of a run: that of the best probe, the numbered one of its step, otherwise the run's last."""
    kept = run.path / "checkpoints" / ("best.ckpt" if column == "probe" else f"step-{step:08d}.ckpt")
    return kept if kept.is_file() else run.path


def export(runs: Sequence[Run], out: Path) -> None:
    """Write a CSV with a row per run: state, rates, scores, the last value of every column of metrics.csv, every config key.

    Raises OSError when it cannot be written.
    """
    rows = [exported(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [name for kind in ("", "last", "config") for name in names if name.rpartition(".")[0].partition(".")[0] == kind]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(out, text.getvalue())


def exported(run: Run) -> dict[str, str]:
    """Return a run's row of the CSV."""
    best = run.best()
    row = {"run": str(run.path), "state": run.state.state, "reason": run.state.reason, "step": str(run.step), "steps": str(run.steps or "")}
    row |= {"started": stamp(run.state.started), "ended": stamp(run.state.ended) if run.state.state != RUNNING else ""}
    row |= {"hours": f"{run.hours:.6g}", "clips_per_second": number(run.usual("clips_per_second"), ".6g", "")}
    row |= {"probe_best": f"{best[1]:.6g}" if best else "", "probe_best_step": str(best[0]) if best else ""}
    names = list(dict.fromkeys(name for one in run.rows for name in one))
    row |= {f"last.{name}": f"{value:.8g}" for name in names if name != "step" and (value := run.last(name)) is not None}
    return row | {f"config.{key}": value for key, value in run.config.items()}


def stamp(seconds: float) -> str:
    """Return a Unix time as UTC, such as 2026-01-31T12:00:00Z, or '' for 0."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""
