"""The request for an export, from the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hear_ssl.packaging.linear_map import LinearMap

PER_TOKEN = "timestamps_per_token"
LINEAR_CLIPS = 4096
KEYS = ("scene", "timestamp", PER_TOKEN)


@dataclass(frozen=True)
class PackageRequest:
    """The request for an export.

    composition: new values for 'scene', 'scene.0.how' and the like. data_licenses: licences by source. weights: `ema`, `trained` or empty,
    see `hear_ssl.checkpoint.embedder_tensors`. linear: the linear maps to fit by 'scene' and 'timestamp'.
    """

    checkpoint: Path
    name: str
    version: str
    weights_url: str
    bundle_weights: bool
    untrained: bool
    composition: dict[str, Any]
    allow_unpublished: bool = False
    allow_long_hop: bool = False
    half: bool = False
    data_licenses: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    linear: dict[str, LinearMap] = field(default_factory=dict)
    linear_clips: int = LINEAR_CLIPS
    linear_shards: tuple[str, ...] = ()  # empty: those of the training


def is_composition_key(key: str) -> bool:
    """Return whether a key is scene, timestamp, a key below them, or timestamps_per_token."""
    return key.partition(".")[0] in KEYS and (not key.startswith(PER_TOKEN) or key == PER_TOKEN)


def checked_composition(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the given readouts by key. Raises ValueError for a key that is not of a readout."""
    wrong = next((key for key in given or {} if not is_composition_key(key)), None)
    if wrong is not None:
        raise ValueError(f"composition has the key {wrong!r}; give {', '.join(KEYS)}, or an option such as 'scene.0.how'")
    return dict(given or {})


def checked_weights(given: str, untrained: bool) -> str:
    """Return the given kind of weights to export. Raises ValueError when there is no such kind, or when it is combined with untrained."""
    if given not in ("", "ema", "trained"):
        raise ValueError(f"weights is {given!r}; give ema for the moving average of a run with trainer.ema, or trained")
    if given and untrained:
        raise ValueError(f"weights={given} and untrained exclude each other; leave one out")
    return given
