"""Sweeps in Python: `sweep`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_ssl.errors import verb
from hear_ssl.training.python_config import Recipe, plain
from hear_ssl.training.sweep import swept
from hear_ssl.training.sweep_values import parse_sweep
from hear_ssl.training.verbs import Paths, Run, changed_keys


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    folder: the folder of the sweep. runs: its finished runs by name. failures: the reason for each run that is not done, by name.
    page: the HTML page that compares the runs, None without a finished one.
    """

    folder: Path
    runs: dict[str, Run]
    failures: dict[str, str]
    page: Path | None


@verb
def sweep(
    recipe: Recipe,
    keys: Mapping[str, Sequence[Any]],
    *,
    shards: Paths | None = None,
    steps: int | None = None,
    run: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    at_once: int | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Sweep:
    """Train every combination of the values of some config keys, as `hear-ssl fit --sweep` does, and return its runs.

    keys: values by config key, such as {"objective.nt_xent.temperature": [0.05, 0.1], "seed": [0, 1]}.
    run: the folder of the sweep, with a run folder for each combination; without it OUTPUT/NAME-sweep.
    at_once: how many runs train next to each other, each on its share of the cores and GPUs; 1 by default.
    slurm: parameters of submitit to train as SLURM jobs, such as {"timeout_min": 600, "gpus_per_node": 1, "slurm_partition": "gpu"}.

    The other arguments are those of `fit`. Each run is a process of its own. Called again with the same arguments, it resumes runs
    that were stopped or failed, and leaves out those that are done. The other runs are trained when one fails; `failures` of the
    result has the reasons. Raises ValueError before the first run starts when the config of any of them is wrong. Ctrl-C stops all
    runs, saved, and raises KeyboardInterrupt.
    """
    named = {"data.shards": shards, "trainer.steps": steps, "run": run, "init": init}
    fixed = [argument(key, value) for key, value in changed_keys(named, overrides or {}).items()]
    wrong = next((key for key, values in keys.items() if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence)), None)
    if wrong is not None or not keys:
        raise ValueError(f"keys is {dict(keys)!r:.100}; give lists of values by dotted keys, such as {{'seed': [0, 1]}}")
    values = {key: [argument(key, value).partition("=")[2] for value in given] for key, given in keys.items()}
    parsed = parse_sweep([f"{key}={','.join(given)}" for key, given in values.items()])
    done = swept(recipe, fixed, parsed, at_once, slurm)
    if done.stopped_by:
        signal.raise_signal(done.stopped_by)
    return Sweep(done.folder, {name: Run(folder) for name, folder in done.runs.items()}, done.failures, done.page)


def argument(key: str, value: Any) -> str:
    """Return `key=value` for a command line, with the value as JSON, which is valid YAML."""
    return f"{key}={json.dumps(plain(value, f'{key}={value!r}'[:200]), ensure_ascii=False)}"
