"""Training in Python: `fit`, and the Run that it returns."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hear_ssl.errors import verb
from hear_ssl.files import read_metrics
from hear_ssl.machine import started_by_srun
from hear_ssl.training.config_sources import Source, run_sources
from hear_ssl.training.fit_cli import ready_config, resumed_run
from hear_ssl.training.python_config import Recipe, override_sources, recipe_sources
from hear_ssl.training.settings import Config

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Run(os.PathLike[str]):
    """A run folder, usable as a path: `hear_ssl.load(run)`, `open(run / "metrics.csv")`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open an existing run folder, such as runs/base-20260101-120000. Raises ValueError when it is not a run folder."""
        self.folder = Path(folder).absolute()
        if not (self.folder / "config.yaml").is_file():
            raise ValueError(f"{self.folder} is not a run folder: it has no config.yaml; give the folder that a training wrote")

    def __fspath__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:
        """Return the path of a file in the run folder."""
        return self.folder / name

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def checkpoint(self) -> Path:
        """Path of the last checkpoint. Raises ValueError when there is none."""
        from hear_ssl.checkpoint import find_checkpoint  # loads torch

        return find_checkpoint(self.folder)

    def metrics(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv, one per report: step, loss, effective_rank, clips_per_second and others, without empty values."""
        _, rows = read_metrics(self.folder / "metrics.csv")
        return [{name: float(value) for name, value in row.items() if value} for row in rows]


@verb
def fit(
    recipe: Recipe | None = None,
    *,
    shards: Paths | None = None,
    steps: int | None = None,
    run: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    data: Any = None,
    init: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Train an encoder, as `hear-ssl fit` does, and return its run folder.

    recipe: the name of a recipe, such as "simclr", the path of a YAML file, or a mapping of the same keys.
    shards: folders or addresses of packed shards (data.shards). steps: optimizer steps of the whole run (trainer.steps).
    run: the run folder; by default a new one under `output`, from name and time. seed: of weights, order, crops and views.
    resume: a run folder or one of its checkpoints to resume, instead of a recipe.
    data: instead of shards, a map-style torch dataset of waveforms, (time,) or (channels, time), or of tuples (waveform, sample rate, ...),
    or a Hugging Face dataset with an Audio column; give it again to resume.
    init: the model whose encoder the run starts from: a run, a checkpoint, an installed wheel's name, or an address of weights.
    overrides: any other key by its dotted name: {"data.batch_size": 8}; `hear-ssl config RECIPE` prints them all.

    It trains in one process. For several, start the program with `torchrun --nproc-per-node N` and give `run`. Progress is logged by
    the logger `hear_ssl` at level INFO. Worker processes decode; they do not run the caller's program again. On Ctrl-C, the step is
    finished and the run saved, then KeyboardInterrupt is raised; any other signal that stops a run is sent again after saving.

    Raises ValueError for a mistake in the config, the data or the run folder, and when embeddings collapse; OSError when shards cannot
    be downloaded or files cannot be written.
    """
    if (recipe is None) == (resume is None):
        raise ValueError("give either a recipe to start a run or resume=RUN to resume one")
    if resume is not None and run is not None:
        raise ValueError(f"run={os.fspath(run)!r} is given with resume; a run resumes in its own folder: leave run out")
    changes = changed_keys({"data.shards": shards, "trainer.steps": steps, "run": run, "seed": seed, "init": init}, overrides or {})
    folder, file = resumed_run(os.fspath(resume)) if resume is not None else (None, None)
    first: list[Source] = recipe_sources(recipe) if recipe is not None else run_sources(folder or Path(), [])
    if folder:
        changes["run"] = folder  # where it is now
    config = ready_config([*first, *override_sources(changes)], changes, resuming=folder is not None)
    return trained(config, folder is not None, file, data)


def changed_keys(named: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys given by name (those that are not None) and the overrides. Raises ValueError when a key is in both."""
    given = {key: value for key, value in named.items() if value is not None}
    twice = next((key for key in given if key in overrides), None)
    if twice:
        raise ValueError(f"{twice} is given twice, by {twice.rpartition('.')[2]} and in overrides; leave one out")
    return {**given, **overrides}


def trained(config: Config, resume: bool, file: Path | None, dataset: Any = None) -> Run:
    """Train by a config and return the run; to resume, start from `file` or the run's last checkpoint. See `fit`."""
    check_processes(config)
    from hear_ssl.training.trainer import fit_run  # Lightning loads only once the config is right

    with caller_state():
        done, stopped_by = fit_run(config, resume, file, own_process=False, dataset=dataset)
    if stopped_by:
        signal.raise_signal(stopped_by)
    return Run(done)


def check_processes(config: Config) -> None:
    """Raise ValueError when a config needs several processes and this program was not started as several, or `run` is missing."""
    several, started = config.trainer.devices * config.trainer.nodes, "TORCHELASTIC_RUN_ID" in os.environ
    if several > 1 and not started and not started_by_srun(several):
        raise ValueError(
            f"trainer.devices={config.trainer.devices} and trainer.nodes={config.trainer.nodes} ask for {several} processes, and fit starts"
            f" one; start the program with torchrun --nproc-per-node {config.trainer.devices}, or train with hear-ssl fit"
        )
    if not config.run and (several > 1 or (started and os.environ["WORLD_SIZE"] != "1")):
        raise ValueError("run is not given, and the processes of a run must agree on its folder; give run=FOLDER")


@contextmanager
def caller_state() -> Iterator[None]:
    """Restore after the block what training changes in its process: signal handlers, random states, threads, a log level."""
    import torch
    from pytorch_lightning.utilities.seed import isolate_rng

    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()} if main else {}
    lightning, threads = logging.getLogger("pytorch_lightning"), torch.get_num_threads()
    level = lightning.level
    try:
        with isolate_rng():
            yield
    finally:
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        lightning.setLevel(level)
        torch.set_num_threads(threads)
