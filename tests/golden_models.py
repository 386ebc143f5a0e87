"""Small models, compositions and audio whose embeddings are stored: plain data, so that code before and after a change builds the same.

Nothing here imports the framework. Names of fields are those that versions 0.1.0 and 0.2.0 used; `hear_ssl.old_versions` translates
them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FRONTENDS: dict[str, dict[str, Any]] = {
    "mel": {"n_mels": 32},
    "log": {"layout": "log", "n_fft": 2048, "min_window": 512, "n_mels": 48, "f_min": 40.0, "log_offset": 1e-8, "mean": -12.0},
}
WITH_CONTEXT = {"channels": 4, "dim": 24, "context": 2, "band_pool": 2}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {  # features, and the encoder
    "audio_ntt": ("mel", {"channels": 8, "dim": 32}),
    "audio_ntt on pitch bands": ("log", {"channels": 4, "dim": 16}),
    "audio_ntt with context": ("mel", WITH_CONTEXT),
    "convnext": ("mel", {"name": "convnext", "channels": 4, "dim": 16, "depth": 3}),
    "convnext of one width": ("mel", {"name": "convnext", "channels": 4, "dim": 32, "depth": 2}),
    "vit": ("mel", {"name": "vit", "dim": 12, "depth": 2, "heads": 2, "window_frames": 200}),
}
SHORT_TIME = 18007  # samples: 1.1 s, encoded whole
LONG_TIME = 60007  # samples: 3.8 s, encoded in four chunks of `chunk_frames` 100, or in two windows of the vit
ONE_WIDTH = ("convnext of one width", "vit")  # layers of other encoders have no mean
COMPOSITIONS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"scene": {}, "timestamp": {}},
    "last layer": {
        "scene": {"layers": "last", "pooling": "mean,max,std"},
        "timestamp": {"layers": "last", "contexts_ms": (200.0, 1000.0)},
    },
    "mean of layers": {
        "scene": {"layers": "mean", "pooling": "mean+std"},
        "timestamp": {"layers": "mean", "contexts_ms": (300.0,), "raw_mel": True},
    },
    "bands": {
        "scene": {"pooling": "mean+max,std", "raw_mel": True},
        "timestamp": {"raw_mel": True, "per_token": 2, "contexts_ms": (200.0,), "around_ms": (100.0, 300.0)},
    },
    "between tokens": {
        "scene": {"layers": "last", "pooling": "std", "raw_mel": True},
        "timestamp": {"layers": "last", "raw_mel": True, "per_token": 4},
    },
}
MAPPED = "bands"  # the composition that is also stored with linear maps


def compositions_of(encoder: str) -> list[str]:
    """Return which compositions an encoder allows."""
    refused = set() if encoder in ONE_WIDTH else {"mean of layers"}
    return [name for name in COMPOSITIONS if name not in refused]


def exact_audio(clips: int, time: int) -> Tensor:
    """Return clips (clips, time) of a square wave with a swelling pseudo-random noise; integers and one exact scale make it."""
    sample, clip = torch.arange(time), torch.arange(clips).unsqueeze(1)
    noise = (sample * sample * 40503 + sample * (7919 + 2 * clip)) % 65536 - 32768
    square = torch.where(sample // (20 + 7 * clip) % 2 == 0, 8192, -8192)
    swell = sample // 1000 % 8
    return (noise * swell // 8 + square * (7 - swell) // 4).float() / 65536.0


def trained_statistics(model: nn.Module) -> None:
    """Give every BatchNorm statistics and weights as after a training, so that evaluation mode matters."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            place = torch.arange(module.num_features)
            with torch.no_grad():
                module.running_mean = (place * 5 % 7 - 3).float() / 16.0
                module.running_var = (place * 3 % 5 + 2).float() / 4.0
                module.weight.copy_((place * 7 % 9 + 4).float() / 8.0)
                module.bias.copy_((place * 11 % 13 - 6).float() / 32.0)
