"""Compare runs: config differences, curves on common axes, scores with their spread over seeds, hours and throughput."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_ssl.files import read_json
from hear_ssl.runs.listing import aligned, number
from hear_ssl.runs.run_folder import Run, differing_keys

NAMED_KEYS = 3  # a group that differs in more keys is named after its first run
MEASURES = {  # rows of the table: name, column of metrics.csv, how to aggregate it over a run, format
    "loss, last": ("loss", "last", ".4f"),
    "probe, best": ("probe", "best", ".4f"),
    "probe, last": ("probe", "last", ".4f"),
    "clips/s": ("clips_per_second", "usual", ".1f"),
    "hours of audio/s": ("audio_hours_per_second", "usual", ".4f"),
    "MFU": ("mfu", "usual", ".1%"),
    "data wait": ("data_wait_share", "usual", ".1%"),
}


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, named by the config keys in which they differ from the other groups."""

    name: str
    runs: tuple[Run, ...]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Return runs grouped by config without the seed; each run without a config is a separate group."""
    keys = [key for key in differing_keys(runs) if key != "seed"]
    found: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        own = tuple(run.config.get(key) for key in keys) if run.config else (str(run.path),)
        found.setdefault(own, []).append(run)
    names = [group_name(keys, members) for members in found.values()]
    twice = Counter(names)
    return [
        Group(f"{name}, {members[0].path}" if twice[name] > 1 else name, tuple(members))
        for name, members in zip(names, found.values(), strict=True)
    ]


def group_name(keys: list[str], members: list[Run]) -> str:
    """Return the name of a group: its values of a few keys, with the shortest distinct names, otherwise its first run."""
    own = [key for key in keys if key in members[0].config]
    if not own or len(own) > NAMED_KEYS:
        return members[0].path.name + (f" and {len(members) - 1} more" if len(members) > 1 else "")
    last = Counter(key.rpartition(".")[2] for key in keys)
    short = {key: name if last[name := key.rpartition(".")[2]] == 1 and not name.isdecimal() else key for key in own}
    return " ".join(f"{short[key]}={members[0].config[key]}" for key in own)


def evaluated(run: Run, records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return a run's scores by 'TASK (score, grid)' from records of evaluations; scores of its last checkpoint are preferred."""
    place = str(run.path.resolve()) + os.sep
    found: dict[str, float] = {}
    for record in records:
        for task, results in record["tasks"].items():
            own = [one for one in results.values() if str(one.get("weights", {}).get("place", "")).startswith(place)]
            own.sort(key=lambda one: not str(one["weights"]["place"]).endswith("last.ckpt"))
            for result in own[:1]:
                found.setdefault(f"{task} ({result['primary']}, {record['grid']})", float(result["score"]))
    return found


def read_records(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the records in folders written by `evaluate --out`. Raises ValueError when a scores.json is missing or damaged."""
    records = []
    for folder in folders:
        try:
            content = read_json(folder / "scores.json")
            for record in (content, *content.get("others", [])):
                {(one["primary"], float(one["score"]), record["grid"]) for results in record["tasks"].values() for one in results.values()}
                records.append(record)
        except OSError:
            raise ValueError(f"{folder} holds no scores.json; give the folder that evaluate wrote with --out") from None
        except (AttributeError, KeyError, TypeError):
            raise ValueError(f"{folder / 'scores.json'} is of another version; evaluate again") from None
    return records


def measures(run: Run, records: Sequence[dict[str, Any]] = ()) -> dict[str, float]:
    """Return a run's values by the names of the table's rows, without missing ones."""
    found: dict[str, float | None] = {}
    best = run.best()
    for name, (column, kind, _) in MEASURES.items():
        found[name] = (best[1] if best else None) if kind == "best" else run.last(column) if kind == "last" else run.usual(column)
    at_best = next((row for row in run.rows if best and int(row["step"]) == best[0]), {})
    found |= {f"{name}, at the best step": float(value) for name, value in at_best.items() if name.startswith("probe_") and value}
    found |= evaluated(run, records)
    found["hours"] = run.hours if run.rows else None
    return {name: value for name, value in found.items() if value is not None}


def spread(values: Sequence[float], form: str) -> str:
    """Return the mean of values, with standard deviation and count if there are several."""
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)} ({len(values)})"


def measure_rows(groups: Sequence[Group], records: Sequence[dict[str, Any]] = ()) -> list[list[str]]:
    """Return the rows of the table of values: a name, then a cell for each group."""
    of_runs = [[measures(run, records) for run in group.runs] for group in groups]
    names = list(dict.fromkeys(name for of_group in of_runs for of_run in of_group for name in of_run))
    forms = {name: form for name, (_, _, form) in MEASURES.items()} | {"hours": ".4f"}
    speed = [name for name, (_, kind, _) in MEASURES.items() if kind == "usual"]
    names.sort(key=lambda name: name in (*speed, "hours"))  # scores first
    return [
        [name, *(spread([one[name] for one in of_group if name in one], forms.get(name, ".4f")) for of_group in of_runs)] for name in names
    ]


def difference_rows(groups: Sequence[Group]) -> list[list[str]]:
    """Return the rows of the table of config differences: a key, then its value in each group, the seeds last."""
    runs = [run for group in groups for run in group.runs]
    keys = differing_keys(runs)
    return [[key, *(", ".join(dict.fromkeys(run.config.get(key, "-") for run in group.runs)) for group in groups)] for key in keys]


def run_rows(groups: Sequence[Group]) -> list[list[str]]:
    """Return the rows of the table of runs: folder, group, state, steps, last and best probe."""
    return [
        [
            str(run.path),
            group.name,
            run.state.state,
            f"{run.step}/{run.steps or '?'}",
            number(run.last("loss"), ".4f"),
            number(run.last("probe"), ".4f"),
            "-" if (best := run.best()) is None else f"{best[1]:.4f} ({best[0]})",
            f"{run.hours:.4f}",
        ]
        for group in groups
        for run in group.runs
    ]


RUN_HEAD = ["run", "group", "state", "step", "loss", "probe", "best (at step)", "hours"]


def compare_lines(groups: Sequence[Group], records: Sequence[dict[str, Any]] = ()) -> list[str]:
    """Return the comparison as text: groups, config differences, numbers as mean ± standard deviation over seeds, runs."""
    titles = [f"[{number_of}]" for number_of in range(1, len(groups) + 1)]
    named = [f"{title} {group.name}" for title, group in zip(titles, groups, strict=True)]
    differences = difference_rows(groups)
    numbered = {group.name: title for title, group in zip(titles, groups, strict=True)}
    runs = [[row[0], numbered[row[1]], *row[2:]] for row in run_rows(groups)]
    lines = [*named, ""]
    lines += aligned([["config", *titles], *differences]) if differences else ["the runs have one config"]
    lines += ["", *aligned([["mean ± std (runs)", *titles], *measure_rows(groups, records)]), "", *aligned([RUN_HEAD, *runs])]
    return lines
