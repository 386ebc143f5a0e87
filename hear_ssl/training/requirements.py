"""What the selected objectives and encoder require of the rest of a config, checked from what their classes declare."""

from __future__ import annotations

from hear_ssl.objectives.base import NEEDS
from hear_ssl.training.settings import Config

VIEWS = 2  # of each clip


def check_requirements(config: Config) -> None:
    """Raise ValueError when an objective requires what the config does not provide, or the encoder cannot drop time steps."""
    if config.views.keep < 1 and not config.encoder.kind.can_drop:
        raise ValueError(
            f"views.keep is {config.views.keep:g}, but the encoder {config.encoder.name} encodes every time step; set views.keep=1"
        )
    for name, part in config.objective.items():
        if part.options.weight == 0:
            continue
        unknown = sorted(set(part.kind.needs) - set(NEEDS))
        if unknown:
            raise ValueError(f"objective.{name} needs {unknown[0]!r}; what an objective can need is {', '.join(NEEDS)}")
        if part.kind.views > VIEWS:
            raise ValueError(f"objective.{name} compares {part.kind.views} views; a config makes {VIEWS}")
        if "aligned" in part.kind.needs and (wrong := misalignment(config)):
            raise ValueError(f"objective.{name} compares views of one crop token by token; set {wrong}")
        if "masks" in part.kind.needs and config.views.keep == 1:
            raise ValueError(f"objective.{name} learns from tokens that are left out; set views.keep below 1")


def misalignment(config: Config) -> str:
    """Return the keys to set so that token t of all views stands for the same moment; '' when it does."""
    wanted = {
        "data.crops=1": config.data.crops == 1,
        "data.positives=crops": config.data.positives == "crops",
        "views.crop_time=0": config.views.crop_time == 0,
        "views.keep=1": config.views.keep == 1,
    }
    return " ".join(key for key, met in wanted.items() if not met)
