"""Encoders: features (batch, n_mels, frames) to the tokens of every layer, each (batch, tokens, layer_dim)."""

from __future__ import annotations

from ..settings import EncoderConfig
from .audio_ntt import AudioNTT
from .base import Encoder


def build_encoder(config: EncoderConfig, n_mels: int) -> Encoder:
    """Build the encoder that the config names. Raises ValueError when it does not fit the number of mel bands."""
    if config.name == "audio_ntt":
        return AudioNTT(n_mels, config.channels, config.dim, config.dropout)
    raise ValueError(f"encoder.name is {config.name!r}; allowed is audio_ntt")


__all__ = ["AudioNTT", "Encoder", "build_encoder"]
