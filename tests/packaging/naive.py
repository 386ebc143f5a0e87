"""A right HEAR module in one file that needs torch alone: hearbaseline's naive design (Turian et al., HEAR, 2022) written anew.

Log-mel frames centred on every 25 ms, projected at random; the scene is their mean. Wrong modules change one thing in it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE, HOP, WINDOW, BANDS, DIM = 16000, 400, 1024, 64, 32


def mel_filters() -> Tensor:
    """Return triangular filters (WINDOW // 2 + 1, BANDS) between 60 and 7800 Hz, corners equally spaced in mel."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (60.0, 7800.0))
    corners = 700.0 * (10.0 ** (torch.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1).unsqueeze(1)
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp_min(0.0)


class Naive(nn.Module):
    """Log-mel and a fixed random projection."""

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate: Any = RATE
        self.scene_embedding_size: Any = DIM
        self.timestamp_embedding_size: Any = DIM
        self.register_buffer("filters", mel_filters())
        self.projection = nn.Parameter(torch.randn(BANDS, DIM, generator=torch.Generator().manual_seed(0)))
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, audio: Tensor) -> Tensor:
        """Return frames (batch, frames, DIM) of audio (batch, time)."""
        count = audio.shape[1] // HOP + 1
        padded = F.pad(audio, (WINDOW // 2, WINDOW // 2 + HOP))
        frames = padded.unfold(1, WINDOW, HOP)[:, :count] * torch.hann_window(WINDOW)
        power = torch.fft.rfft(frames).abs().square()
        return torch.log(power @ self.filters + 1e-5) @ self.projection / 8.0


class Right:
    """The three functions of the API; wrong modules override one."""

    def load_model(self, model_file_path: str = "") -> Naive:
        """Return the model; a path that is not there, or holds no weights of it, raises."""
        model = Naive()
        if model_file_path:
            model.load_state_dict(torch.load(model_file_path, weights_only=True))
        return model.eval()

    def frames(self, audio: Tensor, model: Naive) -> Tensor:
        """Return frames without gradient."""
        with torch.no_grad():
            frames: Tensor = model(audio)
            return frames

    def times(self, audio: Tensor, count: int, model: Naive) -> Tensor:
        """Return the centres of `count` frames in ms (batch, count)."""
        return (torch.arange(count, dtype=torch.float64) * HOP * 1000.0 / model.sample_rate).float().repeat(audio.shape[0], 1)

    def get_scene_embeddings(self, audio: Tensor, model: Naive) -> Tensor:
        """Return the mean frame."""
        return self.frames(audio, model).mean(1)

    def get_timestamp_embeddings(self, audio: Tensor, model: Naive) -> tuple[Tensor, Tensor]:
        """Return frames and their times."""
        frames = self.frames(audio, model)
        return frames, self.times(audio, frames.shape[1], model)


load_model = Right().load_model
get_scene_embeddings = Right().get_scene_embeddings
get_timestamp_embeddings = Right().get_timestamp_embeddings
