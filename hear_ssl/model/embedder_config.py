"""What an embedder is made of: frontend, encoder and compositions, all that is needed to rebuild it for its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, Tuple

from .encoders import ENCODERS
from .options import Classes, CompositionConfig, FrontendConfig, Part, from_mapping, option, options_of


def encoder(name: str, **options: Any) -> Part:
    """Return the selection of one of our encoders; options that are left out have their defaults."""
    kind = ENCODERS[name]
    return Part(name, kind, options_of(kind)(**options))


@dataclass(frozen=True)
class EmbedderConfig:
    """Frontend, encoder and compositions.

    beside: more encoders on the same features, as examples/reference/combine.py writes them.
    """

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: Part = field(default_factory=lambda: encoder("audio_ntt"))
    beside: Tuple[Part, ...] = ()
    scene: CompositionConfig = field(default_factory=CompositionConfig)
    timestamp: CompositionConfig = field(default_factory=lambda: CompositionConfig(pooling="mean"))
    chunk_frames: int = option(800, "long audio is encoded in chunks of this many frames", "frames", 64, 1000000)


def embedder_config(mapping: Any, where: str, own: Optional[Classes] = None) -> EmbedderConfig:
    """Return the config that a mapping describes, such as that of a manifest; `own` has a user's encoder classes by their names.

    Raises ValueError that names the key in `where` that is unknown, of the wrong type or out of range.
    """
    return from_mapping(EmbedderConfig, mapping, where, {**ENCODERS, **(own or {})})
