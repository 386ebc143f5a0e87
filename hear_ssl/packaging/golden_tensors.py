"""Golden tensors: fixed audio and its embeddings at export, stored in the wheel to check other machines against them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hear_ssl.model import Embedder, get_scene_embeddings, get_timestamp_embeddings


def golden_audio(sample_rate: int) -> Tensor:
    """Return two sounds (2, 2 s): a rising tone with a click, and noise with growing amplitude."""
    time = torch.arange(2 * sample_rate, dtype=torch.float64) / sample_rate
    sweep = 0.5 * torch.sin(2.0 * math.pi * (110.0 * time + 400.0 * time.square()))
    sweep[sample_rate] = 1.0
    noise = torch.rand(len(time), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2.0 - 1.0
    return torch.stack([sweep, 0.3 * noise * time / 2.0]).float()


def golden_tensors(model: Embedder) -> dict[str, Tensor]:
    """Return the audio and its scene and timestamp embeddings with timestamps in ms."""
    audio = golden_audio(model.sample_rate)
    embeddings, timestamps_ms = get_timestamp_embeddings(audio, model)
    return {
        "audio": audio,
        "scene_embeddings": get_scene_embeddings(audio, model),
        "timestamp_embeddings": embeddings,
        "timestamps_ms": timestamps_ms,
    }
