"""The plan of a sweep: its runs, all checked before the first one starts, and which of them remain to be trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from hear_ssl.model.options import to_mapping
from hear_ssl.runs.run_folder import PLACES, dotted, read_config
from hear_ssl.runs.state import DONE, FILE, RUNNING, read_state
from hear_ssl.training.config import whole_config
from hear_ssl.training.config_sources import read_sources
from hear_ssl.training.places import whole_paths, without_credentials
from hear_ssl.training.settings import Config
from hear_ssl.training.sweep_values import combined

ELSEWHERE = (*PLACES, "wandb")  # config keys that may differ when a sweep resumes
LOGS = "logs"  # subfolder of the sweep's folder


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: its name and folder, its recipe and its `key=value` arguments."""

    name: str
    run: Path
    recipe: str
    arguments: tuple[str, ...]
    processes: int = 1

    @property
    def log(self) -> Path:
        """The file with the run's output."""
        return self.run.parent / LOGS / f"{self.name}.log"

    def state(self) -> str:
        """Return `done`, `running` (by another process), `resume` or `new`. Raises ValueError when its state.json is damaged."""
        state = read_state(self.run).state
        if state in (DONE, RUNNING):
            return state
        return "resume" if next((self.run / "checkpoints").glob("*.ckpt"), None) else "new"

    def command(self) -> list[str]:
        """Return the arguments of `hear-ssl fit` that start or resume it."""
        if self.state() == "resume":  # with its own config, which stores addresses without credentials
            return ["--resume", str(self.run), *(one for one in self.arguments if one.startswith("data.shards="))]
        return ["--config", self.recipe, *self.arguments, f"run={self.run}"]


def planned(recipe: str, fixed: Sequence[str], keys: dict[str, list[str]]) -> tuple[Path, dict[SweepRun, Config]]:
    """Return the folder of a sweep and its runs with their configs: a recipe with `fixed` arguments and each combination of `keys`.

    The folder is `run`, by default OUTPUT/NAME-sweep. Raises ValueError when a config is wrong, two configs are equal, or a run already
    exists with another config.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("a sweep starts the processes of its runs itself; start it without torchrun")
    arguments = {name: [*fixed, *own] for name, own in combined(keys).items()}
    configs = {name: whole_paths(whole_config(read_sources(recipe, given))) for name, given in arguments.items()}
    first = next(iter(configs.values()))
    folder = Path(first.run) if first.run else Path(first.output) / f"{first.name}-sweep"
    if (folder / FILE).is_file():
        raise ValueError(f"{folder} is the folder of a run; give run=FOLDER with another folder, in which the sweep makes one for each run")
    names: dict[str, str] = {}
    for name, config in configs.items():
        wanted = comparable(config)
        other = names.setdefault(repr(wanted), name)
        if other != name:
            raise ValueError(f"--sweep has one config twice, {other} and {name}; leave one of the values out")
        check_earlier(folder / name, wanted)
    own = {name: tuple(one for one in given if not one.startswith("run=")) for name, given in arguments.items()}
    devices = {name: config.trainer.devices * config.trainer.nodes for name, config in configs.items()}
    return folder, {SweepRun(name, folder / name, recipe, own[name], devices[name]): config for name, config in configs.items()}


def comparable(config: Config) -> dict[str, str]:
    """Return a config by dotted keys as `read_config` reads it from a run, without keys that may differ on resuming."""
    content = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.create(to_mapping(without_credentials(config)))))
    return {key: value for key, value in dotted(content) if key not in ELSEWHERE}


def check_earlier(run: Path, wanted: dict[str, str]) -> None:
    """Raise ValueError when a run folder has another config than `wanted`; a key newer than the run had its default."""
    if not (run / "config.yaml").is_file():
        return
    before = read_config(run / "config.yaml")
    key = next((key for key, value in wanted.items() if key in before and before[key] != value), None)
    if key is not None:
        raise ValueError(f"{run} was trained with {key}={before[key]}, not {wanted[key]}; sweep into another folder with run=FOLDER")
