"""The page of a comparison: self-contained HTML, built with the functions of the report."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hear_ssl.evaluation.report import figures
from hear_ssl.evaluation.report.chart import Value, interval_chart
from hear_ssl.evaluation.report.page import figure, opening, section, shown, table
from hear_ssl.evaluation.report.report_template import PAGE, STYLE
from hear_ssl.files import atomic_write
from hear_ssl.runs.compare import RUN_HEAD, Group, difference_rows, measure_rows, run_rows

CURVES = {
    "loss": "loss",
    "probe": "probe, mean of its tasks",
    "effective_rank": "effective rank of the embeddings",
    "clips_per_second": "throughput (clips/s)",
}


def write_page(groups: Sequence[Group], out: Path, records: Sequence[dict[str, Any]] = ()) -> None:
    """Write the page of a comparison. Raises OSError when it cannot be written."""
    runs = [(group.name, run.rows) for group in groups for run in group.runs]
    names = [group.name for group in groups]
    columns = dict.fromkeys(column for _, rows in runs for row in rows[-1:] for column in row if column.startswith("probe_"))
    tasks = {column: column.removeprefix("probe_").replace("_", " ") for column in columns}
    lines = figures.curves_of_runs(runs, CURVES | tasks)
    caption = (
        "A line for each run, in the colour of its group. Losses of different objectives and probes on different clips are not comparable."
    )
    differences = difference_rows(groups)
    place, rows = with_short_paths(run_rows(groups))
    parts = [
        first_section(groups),
        section("Curves", "From metrics.csv of each run.", figure(figures.key_of(figures.colours(names)) + lines, caption)),
        section(
            "Scores and speed",
            "Mean ± standard deviation over the runs of a group, which differ only in their seed; in brackets, the number of runs.",
            table(["", *names], measure_rows(groups, records)),
        ),
        section(
            "Config",
            "The keys in which the runs differ." if differences else "All runs have the same config.",
            table(["key", *names], differences) if differences else "",
        ),
        section("Runs", f"{place}, at the time of writing this page.", table(RUN_HEAD, rows)),
    ]
    count = sum(len(group.runs) for group in groups)
    atomic_write(out, PAGE.format(title=f"{count} runs compared", style=STYLE, script="", body="".join(parts)))


def with_short_paths(rows: list[list[str]]) -> tuple[str, list[list[str]]]:
    """Return where runs are, as HTML, and the rows of their table with paths from there."""
    parents = [os.path.dirname(row[0]) for row in rows]
    folder = os.path.commonpath(parents) if len({os.path.isabs(parent) for parent in parents}) == 1 else ""
    if not folder:
        return "From the folder of the command", rows
    return f"In <code>{shown(folder)}</code>", [[os.path.relpath(row[0], folder), *row[1:]] for row in rows]


def first_section(groups: Sequence[Group]) -> str:
    """Return the first section: which group is best, in one sentence and one chart, by the best probe or, without probes, the last loss."""
    probes = {group.name: [found[1] for run in group.runs if (found := run.best())] for group in groups}
    losses = {group.name: [loss for run in group.runs if (loss := run.last("loss")) is not None] for group in groups}
    values = {name: found for name, found in (probes if any(probes.values()) else losses).items() if found}
    if not values:
        return opening("No run has a score or a loss yet.", "")
    probed = any(probes.values())
    means = {name: statistics.fmean(found) for name, found in values.items()}
    ranked = sorted(means, key=lambda name: means[name], reverse=probed)
    best, what = ranked[0], "best probe" if probed else "last loss"
    sentence = f"{best} has a {what} of {means[best]:.4f}"
    if len(ranked) > 1:
        sentence = f"{best} has the {'highest' if probed else 'lowest'} {what}, {means[best]:.4f}"
        deviations = [statistics.stdev(values[name]) for name in ranked[:2] if len(values[name]) > 1]
        gap = abs(means[best] - means[ranked[1]])
        sentence += f", {gap:.4f} {'above' if probed else 'below'} {ranked[1]}"
        if deviations:
            sentence += (
                f"; that is {'more than' if gap > max(deviations) else 'within'} one standard deviation over seeds ({max(deviations):.4f})"
            )
    rows = [(name, [Value(name, means[name], deviation_of(values[name]), tuple(values[name]))]) for name in ranked]
    chart = interval_chart(rows, what, figures.colours(group.name for group in groups), sentence, form=".4f")
    caption = "A dot is a run, a bar the mean of its group, a line one standard deviation to either side."
    return opening(f"{shown(sentence)}.", figure(chart, caption))


def deviation_of(values: Sequence[float]) -> float:
    """Return the standard deviation of values, 0 for a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
