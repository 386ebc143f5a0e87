"""Train every combination of values of some config keys, on this machine or as SLURM jobs; then compare the runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hear_ssl.addresses import redacted_text
from hear_ssl.errors import printable
from hear_ssl.files import atomic_write
from hear_ssl.folder_lock import folder_lock
from hear_ssl.progress import report
from hear_ssl.runs.compare import compare_lines, grouped
from hear_ssl.runs.run_folder import MARKS, find_runs
from hear_ssl.runs.state import DONE, RUNNING, RunState, read_state
from hear_ssl.training.config_sources import BASE
from hear_ssl.training.python_config import Recipe, plain
from hear_ssl.training.recipes import recipe_path
from hear_ssl.training.sweep_plan import SweepRun, planned
from hear_ssl.training.sweep_processes import LocalStart, carry_out
from hear_ssl.training.sweep_values import parse_sweep

PAGE, RECIPE = "compare.html", "recipe.yaml"
BUSY = "wait for that sweep to end, or sweep into another folder with run=FOLDER"


@dataclass(frozen=True)
class Swept:
    """The result of a sweep: its folder, the folders of its runs by name, reasons for unfinished runs, the page that compares the runs,
    and the signal that stopped the sweep, 0 for none."""

    folder: Path
    runs: dict[str, Path]
    failures: dict[str, str]
    page: Path | None
    stopped_by: int


def command(recipe: str, fixed: Sequence[str], given: Sequence[str], at_once: int | None, slurm: Sequence[str] | None) -> int:
    """Run the sweep of a command line and return the exit status: 0, 1 when a run is not done, 128 + signal number when stopped."""
    parameters = None if slurm is None else dict(map(parameter, slurm))
    done = swept(recipe, fixed, parse_sweep(given), at_once, parameters)
    return 128 + done.stopped_by if done.stopped_by else int(bool(done.failures))


def parameter(given: str) -> tuple[str, Any]:
    """Return the name and the value of an argument of --slurm. Raises ValueError when it is of another form."""
    name, _, text = given.partition("=")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not name or value is None:
        raise ValueError(f"--slurm {given!r} is not of the form key=value, such as timeout_min=600")
    return name, value


def swept(recipe: Recipe, fixed: Sequence[str], keys: dict[str, list[str]], at_once: int | None, slurm: Mapping[str, Any] | None) -> Swept:
    """Run a sweep and return its result. Raises ValueError for any mistake, before the first run starts."""
    if at_once is not None and (not isinstance(at_once, int) or at_once < 1):
        raise ValueError(f"at-once is {at_once}; give how many runs train next to each other, at least 1")
    if isinstance(recipe, Mapping):
        with tempfile.TemporaryDirectory() as spare:  # its own folder follows from what it contains
            folder, runs = planned(str(written(recipe, Path(spare))), fixed, keys)
        runs = {replace(run, recipe=str(folder / RECIPE)): config for run, config in runs.items()}
    else:
        folder, runs = planned(os.fspath(recipe), fixed, keys)
    with folder_lock(folder, BUSY):
        states = {run.name: run.state() for run in runs}
        for name in (name for name, state in states.items() if state == RUNNING):
            report(f"[{name}] is trained by another process")
        due = [run for run in runs if states[run.name] not in (DONE, RUNNING)]
        if due and slurm is None:  # what jobs read may be on their machines alone
            from hear_ssl.training.sweep_checks import check_startable  # loads Lightning

            check_startable(runs[run] for run in due)
        report(f"sweep {folder}: {len(runs)} runs, {len(runs) - len(due)} of them done or running, {len(due)} to train")
        if isinstance(recipe, Mapping):
            written(recipe, folder)
        failures, stopped_by = trained(due, folder, at_once, slurm)
        return concluded(folder, list(runs), failures, stopped_by)


def written(recipe: Mapping[str, Any], folder: Path) -> Path:
    """Write a recipe given as a mapping to a folder, for the processes of the runs, and return the file.

    Raises ValueError when it contains credentials.
    """
    content = plain(recipe, "the config")
    if isinstance(content.get(BASE), str):
        content[BASE] = str(recipe_path(content[BASE]).absolute())
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if redacted_text(text) != text:
        raise ValueError("the config has an address with credentials, which a sweep would keep in a file; give it by shards")
    atomic_write(folder / RECIPE, text)
    return folder / RECIPE


def trained(due: Sequence[SweepRun], folder: Path, at_once: int | None, slurm: Mapping[str, Any] | None) -> tuple[dict[str, str], int]:
    """Train the runs that are due; return the reasons of failed runs and the signal that stopped the sweep, 0 for none."""
    if slurm is None or not due:
        return carry_out(due, LocalStart(at_once or 1), at_once or 1)
    from hear_ssl.training.sweep_slurm import SlurmStart

    return carry_out(due, SlurmStart(due, folder, slurm, at_once), len(due))


def concluded(folder: Path, runs: Sequence[SweepRun], failures: dict[str, str], stopped_by: int) -> Swept:
    """Report the result of a sweep, write the page that compares its runs, and return the result."""
    unfinished = {}
    for run in runs:
        state = read_state(run.run)
        if state.state != DONE:
            unfinished[run.name] = failures.get(run.name) or ended(run, state)
    there = [run for run in runs if any((run.run / mark).is_file() for mark in MARKS)]
    page = None
    if there:
        page = folder / PAGE
        write(page, there)
    report(f"sweep {folder}: {len(runs) - len(unfinished)} of {len(runs)} runs are done")
    for name, reason in unfinished.items():
        report(f"not done  {name}: {printable(reason)}  (log {folder / 'logs' / name}.log)")
    if unfinished:
        report("the same command resumes the sweep")
    return Swept(folder, {run.name: run.run for run in there if (run.run / "config.yaml").is_file()}, unfinished, page, stopped_by)


def ended(run: SweepRun, state: RunState) -> str:
    """Return why a run that did not fail is not done."""
    if state.state == RUNNING:
        return "another process trains it"
    return f"{state.state}: {state.reason}" if run.run.is_dir() else "not started"


def write(page: Path, runs: Sequence[SweepRun]) -> None:
    """Report the comparison of runs, as `hear-ssl runs compare` prints it, and write its page."""
    from hear_ssl.runs.compare_page import write_page  # loads matplotlib

    groups = grouped(find_runs([run.run for run in runs]))
    for line in compare_lines(groups):
        report(printable(line))
    write_page(groups, page)
    report(f"page         {page}")
