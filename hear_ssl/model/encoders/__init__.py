"""Encoders: features (batch, n_mels, frames) to the tokens of every layer, each (batch, tokens, layer_dim)."""

from __future__ import annotations

from typing import Dict, Sequence, Type

from ..options import Part
from ..parts import build
from .audio_ntt import AudioNTT
from .base import Encoder
from .convnext import ConvNeXt
from .towers import Towers
from .vit import ViT

ENCODERS: Dict[str, Type[Encoder]] = {"audio_ntt": AudioNTT, "convnext": ConvNeXt, "vit": ViT}


def build_encoder(part: Part, n_mels: int, beside: Sequence[Part] = ()) -> Encoder:
    """Build the encoder that a config selects, concatenated with those `beside` it.

    Raises ValueError when one does not fit the number of mel bands, or another one.
    """
    encoders = []
    for selected in (part, *beside):
        encoder: Encoder = build(selected, n_mels=n_mels)
        encoders.append(encoder)
    return Towers(encoders) if len(encoders) > 1 else encoders[0]


__all__ = ["ENCODERS", "AudioNTT", "ConvNeXt", "Encoder", "Towers", "ViT", "build_encoder"]
