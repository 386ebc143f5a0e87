"""Check that a config provides what the classes of its objectives and encoder require."""

from __future__ import annotations

from hear_ssl.model.options import Part
from hear_ssl.objectives.base import NEEDS
from hear_ssl.training.settings import Config


def trained(config: Config) -> dict[str, Part]:
    """Return the objectives whose weight is above 0."""
    return {name: part for name, part in config.objective.items() if part.options.weight > 0}


def views_used(config: Config) -> int:
    """Return the number of views that the objectives compare: the first ones, or all if an objective uses all."""
    counts = [part.kind.views for part in trained(config).values()]
    return len(config.views) if not counts or 0 in counts else max(counts)


def check_requirements(config: Config) -> None:
    """Raise ValueError when an objective requires what the config does not provide, or the encoder cannot drop time steps."""
    masked = {f"views.{number}" for number, view in enumerate(config.views) for part in view.augment if part.kind.kind == "mask"}
    if masked and not config.encoder.kind.can_drop:
        raise ValueError(f"{min(masked)} keeps some of the time steps, but the encoder {config.encoder.name} encodes all; leave keep out")
    for name, part in trained(config).items():
        unknown = sorted(set(part.kind.needs) - set(NEEDS))
        if unknown:
            raise ValueError(f"objective.{name} needs {unknown[0]!r}; what an objective can need is {', '.join(NEEDS)}")
        if part.kind.views > len(config.views):
            raise ValueError(f"objective.{name} compares {part.kind.views} views; the config has {len(config.views)}: add some to views")
        if "aligned" in part.kind.needs and (wrong := misalignment(config, part.kind.views or len(config.views))):
            raise ValueError(f"objective.{name} compares views of one crop token by token, but {wrong}")
        if "masks" in part.kind.needs and not masked:
            raise ValueError(f"objective.{name} learns from tokens that are left out; add keep to the augmentations of a view")


def misalignment(config: Config, count: int) -> str:
    """Return why token t of the first `count` views does not cover the same time frames in all of them, or '' when it does."""
    for number, view in enumerate(config.views[:count]):
        if view.crop != config.views[0].crop:
            return f"views.{number} shows another crop than views.0; set views.{number}.crop={config.views[0].crop}"
        for place, part in enumerate(view.augment):
            if part.kind.moves_time(part.options):
                return f"{part.name} moves the time of views.{number}.augment.{place}; leave it out, or switch its change of time off"
    return ""
