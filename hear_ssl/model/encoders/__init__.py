"""Encoders: features (batch, n_mels, frames) to the tokens of every layer, each (batch, tokens, layer_dim)."""

from __future__ import annotations

from typing import Dict, Type

import torch

from ..options import Part
from ..parts import build
from .audio_ntt import AudioNTT
from .base import Encoder
from .convnext import ConvNeXt
from .vit import ViT

ENCODERS: Dict[str, Type[Encoder]] = {"audio_ntt": AudioNTT, "convnext": ConvNeXt, "vit": ViT}


def build_encoder(part: Part, n_mels: int) -> Encoder:
    """Build the encoder that a config selects. Raises ValueError when it does not fit the number of mel bands."""
    encoder: Encoder = build(part, n_mels=n_mels)
    if part.name not in ENCODERS:
        check_tokens(encoder, part.name, n_mels)
    return encoder


@torch.no_grad()
def check_tokens(encoder: Encoder, name: str, n_mels: int) -> None:
    """Raise ValueError unless an encoder returns the tokens that its attributes declare, for eight tokens of silence."""
    stride, dims = encoder.time_stride, tuple(encoder.layer_dims)
    if not dims or stride < 1 or encoder.halo_frames % stride or encoder.chunk_frames % stride:
        raise ValueError(
            f"the encoder {name} must set layer_dims, the width of each layer, and halo_frames and chunk_frames as multiples of"
            f" time_stride; they are {dims}, {encoder.halo_frames}, {encoder.chunk_frames} and {stride}"
        )
    if len(encoder.layer_names) not in (0, len(dims)) or len(set(encoder.layer_names)) < len(encoder.layer_names):
        raise ValueError(f"the encoder {name} must set layer_names to a name for each of its {len(dims)} layers, all different")
    training = encoder.training
    layers = encoder.eval()(torch.zeros(1, n_mels, 8 * stride))
    encoder.train(training)
    expected = [(1, 8, dim) for dim in dims]
    found = [tuple(layer.shape) for layer in layers] if isinstance(layers, (list, tuple)) else type(layers).__name__
    if found != expected:
        raise ValueError(f"the encoder {name} must return a list of tokens {expected} for 8 tokens of silence; it returned {found}")


__all__ = ["ENCODERS", "AudioNTT", "ConvNeXt", "Encoder", "ViT", "build_encoder"]
