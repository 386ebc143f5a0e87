"""What an embedder is made of: frontend, encoder and readouts, all that is needed to rebuild it for its weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from .encoders import ENCODERS
from .options import Classes, FrontendConfig, Part, from_mapping, option, options_of
from .readouts import READOUTS

KINDS = ("scene", "timestamp")


def encoder(name: str, **options: Any) -> Part:
    """Return the selection of one of our encoders; options that are left out have their defaults."""
    return _selected(ENCODERS, name, options)


def readout(name: str, **options: Any) -> Part:
    """Return the selection of one of our readouts; options that are left out have their defaults."""
    return _selected(READOUTS, name, options)


def _selected(classes: Classes, name: str, options: Mapping[str, Any]) -> Part:
    return Part(name, classes[name], options_of(classes[name])(**options))


@dataclass(frozen=True)
class EmbedderConfig:
    """Frontend, encoder, and the readouts of scenes and of timestamps."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: Part = field(default_factory=lambda: encoder("audio_ntt"))
    scene: Tuple[Part, ...] = field(default_factory=lambda: (readout("pooled"),))
    timestamp: Tuple[Part, ...] = field(default_factory=lambda: (readout("tokens"),))
    timestamps_per_token: int = option(
        1, "how many timestamps lie evenly in the hop of a token, each encoded for itself", "timestamps", 1, 64
    )
    chunk_frames: int = option(800, "long audio is encoded in chunks of this many frames", "frames", 64, 1000000)

    def own(self) -> Tuple[Part, ...]:
        """Return the classes that ship: encoder and readouts."""
        return (self.encoder, *self.scene, *self.timestamp)


def readouts_of(kind: str, own: Optional[Classes] = None) -> Classes:
    """Return the readouts of scenes or of timestamps by their names, with a user's `own`."""
    return {name: part for name, part in {**READOUTS, **(own or {})}.items() if kind in getattr(part, "kinds", ())}


def embedder_config(mapping: Any, where: str, own: Optional[Classes] = None) -> EmbedderConfig:
    """Return the config that a mapping describes, such as that of a manifest; `own` has a user's classes by their names.

    Raises ValueError that names the key in `where` that is unknown, of the wrong type or out of range.
    """
    classes: Dict[str, Classes] = {kind: readouts_of(kind, own) for kind in KINDS}
    encoders = {name: part for name, part in (own or {}).items() if not hasattr(part, "kinds")}
    return from_mapping(EmbedderConfig, mapping, where, {"encoder": {**ENCODERS, **encoders}, **classes})


def without_maps(config: EmbedderConfig) -> EmbedderConfig:
    """Return the config without the readouts that map those before them, such as `linear`."""
    kept = {kind: tuple(part for part in getattr(config, kind) if not part.kind.maps_before) for kind in KINDS}
    return replace(config, **kept)  # type: ignore[arg-type]
