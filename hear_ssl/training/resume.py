"""Resume a run from its last checkpoint, if the checkpoint fits the present config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf

from hear_ssl.checkpoint import find_checkpoint, has_average, load_checkpoint, numbered_checkpoints
from hear_ssl.files import atomic_write
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import VERSION_KEY
from hear_ssl.progress import warn
from hear_ssl.training.batch_datamodule import process_rank
from hear_ssl.training.checkpoints import LAST, set_aside_later
from hear_ssl.training.config_parts import config_keys
from hear_ssl.training.config_sources import VERSION_LINE, of_old_version
from hear_ssl.training.dotted_keys import dotted_keys
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.schedule import parameter_groups
from hear_ssl.training.settings import Config
from hear_ssl.version import __version__

KEPT = ("frontend", "encoder", "objective", "training_pool", "scene", "timestamp", "timestamps_per_token", "chunk_frames", "init")
TRAINING_STATE = {"optimizer_states", "lr_schedulers", "loops", "pytorch-lightning_version"}


class KeepConfig(pl.Callback):
    """Store the config in the run folder after all checks have passed; --resume reads it."""

    def __init__(self, run: Path, config: Config, resumed: Path | None = None) -> None:
        self.run, self.config, self.resumed = run, config, resumed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the resolved config to config.yaml, and move away checkpoints after the step from which the run resumes."""
        if trainer.is_global_zero:
            set_aside_later(self.run / "checkpoints", trainer.global_step, self.resumed)
            text = OmegaConf.to_yaml(OmegaConf.create(to_mapping(self.config)))
            atomic_write(self.run / "config.yaml", f"{VERSION_LINE}{__version__}\n{text}")


def whole_checkpoint(run: Path) -> tuple[Path, dict[str, Any]]:
    """Return path and content of the run's last checkpoint or, if that is damaged or missing, of the newest undamaged one.

    Raises ValueError when there is none.
    """
    folder = run / "checkpoints"
    files = [path for path in (folder / LAST, *numbered_checkpoints(folder)) if path.exists()] or [find_checkpoint(run)]
    mistakes: list[ValueError] = []
    for path in files:
        try:
            saved = load_checkpoint(path)
        except ValueError as error:
            mistakes.append(error)
            continue
        if path.name != LAST and process_rank() == 0:
            damage = f"{files[0]} is damaged" if mistakes else f"{folder / LAST} is missing"
            warn(f"{damage}: resuming from {path}, the newest whole checkpoint")
        return path, saved
    raise mistakes[0]


def resume_checkpoint(run: Path, config: Config, file: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Return path and content of the checkpoint from which a run resumes: `file`, or the run's last undamaged one.

    Raises ValueError when it has another architecture or objective, when the file of one of its classes has changed, or when it was
    written by an earlier version or contains no training state.
    """
    path, saved = (file, load_checkpoint(file)) if file else whole_checkpoint(run)
    if not str(saved.get(VERSION_KEY, "")).startswith(".".join(__version__.split(".")[:2])):
        raise ValueError(of_old_version(run, str(saved.get(VERSION_KEY, ""))))
    for key, sha256 in config.own_parts().items():
        if saved.get("parts", {}).get(key) != sha256:
            raise ValueError(f"{path} was trained with another version of the file of {key}; restore that version, or start a new run")
    if not set(saved) >= TRAINING_STATE:
        raise ValueError(f"{path} holds a model, not the state of a training: evaluate or package it; resume from a step-N.ckpt next to it")
    check_average(path, saved, config)
    check_kept(path, dotted_keys(saved["config"], KEPT), config)
    return path, saved


def check_average(path: Path, saved: dict[str, Any], config: Config) -> None:
    """Raise ValueError when a run resumes with averaged weights and its checkpoint has none, or the reverse."""
    if has_average(saved) != bool(config.trainer.ema):
        kept = saved["config"].get("trainer", {}).get("ema", 0.0)
        raise ValueError(f"{path} was trained with trainer.ema={kept}, not {config.trainer.ema}; only a run that averages can change it")


def check_kept(path: Path, before: dict[str, Any], config: Config) -> None:
    """Raise ValueError when the config changes a key that must not change; a key newer than the run had its default."""
    now, known = (
        dotted_keys(to_mapping(config), KEPT),
        config_keys({"encoder": {config.encoder.name: config.encoder}, "objective": config.objective}),
    )
    for key in {**now, **before}:
        default = known[key][1].default if key in known else None
        old, new = before.get(key, list(default) if isinstance(default, tuple) else default), now.get(key)
        if old != new:
            raise ValueError(f"{path} was trained with {key}={old}, not {new}; resume without it, or start a new run")


def check_state(path: Path, saved: dict[str, Any], module: PretrainingModule) -> None:
    """Raise ValueError that names the difference when a checkpoint's tensors or trained parameters are not those of the module."""
    own, kept = module.state_dict(), saved["state_dict"]
    for name in sorted({*own, *kept}):
        there, here = (tuple(tensors[name].shape) if name in tensors else "missing" for tensors in (kept, own))
        if there != here:
            raise ValueError(f"{path} does not fit the arguments: {name} is {there} there, {here} by them; resume without them")
    before = [len(group["params"]) for group in saved["optimizer_states"][0]["param_groups"]]
    if before != [len(group["params"]) for group in parameter_groups(module, 0.0)]:
        raise ValueError(
            f"{path} was trained with another optimizer.frozen than that of the arguments; resume without it, or start a new run"
        )
