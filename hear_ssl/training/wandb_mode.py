"""The Weights & Biases mode of a run: from the command line, otherwise from WANDB_MODE, otherwise from the config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hear_ssl.training.settings import Config

MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}


def with_wandb_mode(config: Config, overrides: Sequence[str], variables: Mapping[str, str] = os.environ) -> Config:
    """Return the config with the mode set by WANDB_MODE or WANDB_DISABLED, unless an override sets `wandb`.

    Raises ValueError when WANDB_MODE is not a valid mode.
    """
    given = variables.get("WANDB_MODE") or ("disabled" if variables.get("WANDB_DISABLED", "").lower() in ("true", "1") else "")
    if not given or any(override.partition("=")[0] == "wandb" for override in overrides):
        return config
    if given.lower() not in MODES:
        raise ValueError(f"WANDB_MODE is {given!r}; set it to {', '.join(MODES)}, or unset it")
    return replace(config, wandb=MODES[given.lower()])
