"""The readouts of a package: those of the checkpoint, or others given on the command line; the encoder is unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hear_ssl.checkpoint import embedder_of
from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import KINDS, EmbedderConfig
from hear_ssl.model.options import Part, check_ranges
from hear_ssl.model.readouts import Concatenated
from hear_ssl.packaging.request import PER_TOKEN, PackageRequest
from hear_ssl.readout_lists import ReadoutLists

Made = tuple[tuple["Made", ...], Part]  # a readout, and the readouts before it if it maps them


@dataclass(frozen=True)
class Setting:
    """One argument of --set, in the form that `ReadoutLists` reads."""

    where: str
    mapping: dict[Any, Any]
    folders: tuple[Path, ...]


def compose(request: PackageRequest, checkpoint: dict[str, Any]) -> Embedder:
    """Return the checkpoint's embedder with the requested readouts, which need no retraining.

    Raises ValueError when they do not fit the encoder, or a map would have weights that were not fitted for its readouts.
    """
    torch.manual_seed(0)
    model = embedder_of(checkpoint, request.checkpoint, trained=not request.untrained, weights=request.weights)
    config = composed_config(model.config, request.composition)
    composed = Embedder(config)
    composed.encoder.load_state_dict(model.encoder.state_dict())
    for kind in KINDS:
        copy_fitted(kind, model, composed)
    return composed.eval()


def composed_config(config: EmbedderConfig, composition: dict[str, Any]) -> EmbedderConfig:
    """Return the config with the readouts of `composition`, see `PackageRequest`. Raises ValueError for unknown names."""
    lists = ReadoutLists(lists={kind: getattr(config, kind) for kind in KINDS})
    per_token = config.timestamps_per_token
    for key, value in composition.items():
        if key == PER_TOKEN:
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"--set {key}={value}: give a whole number")
            per_token = value
            continue
        first, *rest = key.split(".")
        for name in reversed(rest):
            value = {name: value}
        lists.add(Setting(f"--set {key}", {first: value}, (Path.cwd(),)))
    changed = replace(config, **lists.parts(), timestamps_per_token=per_token)  # type: ignore[arg-type]
    check_ranges(changed)
    return changed


def copy_fitted(kind: str, model: Embedder, composed: Embedder) -> None:
    """Copy the weights of equal readouts in `model` to `composed`; other readouts keep their initial weights.

    Raises ValueError when a map was not fitted for the readouts before it.
    """
    before, after = made(getattr(model.config, kind)), made(getattr(composed.config, kind))
    for place, one in enumerate(after):
        new = readout_at(composed, kind, place)
        if one in before:
            new.load_state_dict(readout_at(model, kind, before.index(one)).state_dict())
        elif one[1].kind.maps_before:
            name = one[1].name
            raise ValueError(
                f"{kind} has a readout {name} that was not fitted for the readouts before it: leave those as they are in the"
                f" checkpoint, or leave {name} out; --linear fits one"
            )


def made(parts: tuple[Part, ...]) -> list[Made]:
    """Return the readouts that `build_readout` builds from a list; one that maps others is returned with those before it."""
    found: list[Made] = []
    for part in parts:
        found = [(tuple(found), part)] if part.kind.maps_before else [*found, ((), part)]
    return found


def readout_at(model: Embedder, kind: str, place: int) -> torch.nn.Module:
    """Return a readout of an embedder."""
    readouts: Concatenated = getattr(model, f"{kind}_readout")
    return readouts.readouts[place]
