"""Encoders: features (batch, n_mels, frames) to the tokens of every layer, each (batch, tokens, layer_dim)."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from ..options import EncoderConfig
from .audio_ntt import AudioNTT
from .base import Encoder
from .convnext import ConvNeXt
from .towers import Towers
from .vit import ViT


def build_encoder(config: EncoderConfig, n_mels: int, beside: Sequence[EncoderConfig] = ()) -> Encoder:
    """Build the encoder that the config names, and those of other kinds beside it.

    Raises ValueError when one does not fit the number of mel bands, or another one.
    """
    kinds = [replace(kind, towers=1) for kind in (config, *beside) for _ in range(kind.towers)]
    if len(kinds) > 1:
        return Towers([build_encoder(kind, n_mels) for kind in kinds])
    if config.name == "audio_ntt":
        return AudioNTT(n_mels, config.channels, config.dim, config.dropout, config.context, config.band_pool)
    if config.name == "convnext":
        return ConvNeXt(n_mels, config.channels, config.dim, config.depth, config.dropout)
    if config.name == "vit":
        return ViT(n_mels, config.dim, config.depth, config.heads, config.keep, config.window_frames)
    raise ValueError(f"encoder.name is {config.name!r}; allowed are audio_ntt, convnext and vit")


__all__ = ["AudioNTT", "ConvNeXt", "Encoder", "Towers", "ViT", "build_encoder"]
