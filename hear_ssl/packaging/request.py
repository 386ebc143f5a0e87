"""What is asked of an export, by the command line or in Python."""

from __future__ import annotations

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
    """What the command line asks for; composition maps 'scene', 'scene.0.how' and the like to new values, data_licenses
    sources to licences, linear 'scene' and 'timestamp' to the linear map to fit for them."""

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
    linear: dict[str, LinearMap] = field(default_factory=dict)
    linear_clips: int = LINEAR_CLIPS
    linear_shards: tuple[str, ...] = ()  # of the training when there are none


def is_composition_key(key: str) -> bool:
    """Return whether a key is scene, timestamp, one below them, or timestamps_per_token."""
    return key.partition(".")[0] in KEYS and (not key.startswith(PER_TOKEN) or key == PER_TOKEN)
