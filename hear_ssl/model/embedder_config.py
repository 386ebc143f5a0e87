"""The configuration of an embedder: frontend, encoder and readouts, all that is needed to rebuild it for its weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from .encoders import ENCODERS
from .options import Classes, FrontendConfig, Part, from_mapping, option, options_of
from .readouts import READOUTS

KINDS = ("scene", "timestamp")


def encoder(name: str, **options: Any) -> Part:
    """Select one of our encoders by name and return it as a Part; omitted options have their defaults."""
    return _selected(ENCODERS, name, options)


def readout(name: str, **options: Any) -> Part:
    """Select one of our readouts by name and return it as a Part; omitted options have their defaults."""
    return _selected(READOUTS, name, options)


def _selected(classes: Classes, name: str, options: Mapping[str, Any]) -> Part:
    return Part(name, classes[name], options_of(classes[name])(**options))


@dataclass(frozen=True)
class EmbedderConfig:
    """Frontend, encoder, and the readouts of scene and timestamp embeddings."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: Part = field(default_factory=lambda: encoder("audio_ntt"))
    scene: Tuple[Part, ...] = field(default_factory=lambda: (readout("pooled"),))
    timestamp: Tuple[Part, ...] = field(default_factory=lambda: (readout("tokens"),))
    timestamps_per_token: int = option(1, "timestamps per token hop, evenly spaced; the clip is encoded once for each", "timestamps", 1, 64)
    chunk_frames: int = option(800, "long audio is encoded in chunks of this many frames", "frames", 64, 1000000)

    def own(self) -> Tuple[Part, ...]:
        """Return the selected classes that ship: encoder and readouts."""
        return (self.encoder, *self.scene, *self.timestamp)


def readouts_of(kind: str, own: Optional[Classes] = None) -> Classes:
    """Return the readouts of scenes or of timestamps by name, including a user's `own`."""
    return {name: part for name, part in {**READOUTS, **(own or {})}.items() if kind in getattr(part, "kinds", ())}


def embedder_config(mapping: Any, where: str, own: Optional[Classes] = None) -> EmbedderConfig:
    """Return the config described by a mapping, such as that of a manifest; `own` are a user's classes by name.

    Raises ValueError that names the key in `where` that is unknown, of the wrong type or out of range.
    """
    classes: Dict[str, Classes] = {kind: readouts_of(kind, own) for kind in KINDS}
    encoders = {name: part for name, part in (own or {}).items() if not hasattr(part, "kinds")}
    return from_mapping(EmbedderConfig, mapping, where, {"encoder": {**ENCODERS, **encoders}, **classes})


def without_maps(config: EmbedderConfig) -> EmbedderConfig:
    """Return the config without readouts that map the readouts before them, such as `linear`."""
    kept = {kind: tuple(part for part in getattr(config, kind) if not part.kind.maps_before) for kind in KINDS}
    return replace(config, **kept)  # type: ignore[arg-type]
