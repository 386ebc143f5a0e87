"""Check shards, folders, tasks and the model of `init` of every run of a sweep before the first run starts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from hear_ssl.data.stream.batch_stream import check_ranks
from hear_ssl.objectives.weighted_sum import term_weights
from hear_ssl.training.initial_model import initial_model
from hear_ssl.training.settings import Config
from hear_ssl.training.start_checks import check_folders
from hear_ssl.training.stream_datamodule import data_module


def check_startable(configs: Iterable[Config]) -> None:
    """Raise the ValueError or OSError that `fit` would raise at the start of a run; data shared by several runs are read once."""
    checked: set[str] = set()
    for config in configs:
        check_ranks(config.data.batch_size, config.trainer.devices * config.trainer.nodes)
        term_weights(config.objective)
        rate, encoder = config.frontend.sample_rate, (config.frontend, config.encoder.name, config.encoder.options)
        checks: list[tuple[object, Callable[[], object]]] = [
            (config.views, partial(check_folders, config)),
            ((config.data, rate), partial(data_module, config.data, rate, config.seed)),
        ]
        if config.init:
            checks.append(((config.init, encoder), partial(initial_model, config)))
        if config.probe.every:
            checks.append(((config.probe, rate), partial(check_tasks, config)))
        for settings, check in checks:
            if repr(settings) not in checked:
                check()
                checked.add(repr(settings))


def check_tasks(config: Config) -> None:
    """Raise ValueError when the tasks of the probe cannot be read."""
    from hear_ssl.training.online_probe import check_probe  # loads scikit-learn

    with tempfile.TemporaryDirectory() as spare:
        check_probe(config.probe, config.frontend.sample_rate, config.seed, Path(spare))
