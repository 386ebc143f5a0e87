"""Log-mel spectrogram in plain torch, equal to torchaudio's MelSpectrogram (HTK scale, no filter norm, power 2).

Frames are laid so that the tokens an encoder makes of `time_stride` frames are centred on multiples of the token hop,
from 0 to the end of the clip: hop j of tokens covers frames j * stride .. j * stride + stride - 1, whose mean centre is
sample j * stride * hop_length. Normalisation uses two fixed numbers, never statistics of the input.
"""

from __future__ import annotations

import math
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .settings import FrontendConfig


def hz_to_mel(frequency: float) -> float:
    """Convert Hz to mel on the HTK scale (Young et al., The HTK Book, eq. 5.13)."""
    return 2595.0 * math.log10(1.0 + frequency / 700.0)


def mel_filters(config: FrontendConfig) -> Tensor:
    """Return triangular filters (n_fft // 2 + 1, n_mels) with corners equally spaced in mel."""
    frequencies = torch.linspace(0, config.sample_rate // 2, config.n_fft // 2 + 1)
    corners_mel = torch.linspace(hz_to_mel(config.f_min), hz_to_mel(config.f_max), config.n_mels + 2)
    corners = 700.0 * (10.0 ** (corners_mel / 2595.0) - 1.0)
    slopes = corners.unsqueeze(0) - frequencies.unsqueeze(1)  # (bins, n_mels + 2)
    widths = corners[1:] - corners[:-1]
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    return torch.clamp(torch.minimum(rising, falling), min=0.0)


class LogMel(nn.Module):
    """Turn waveforms (batch, time) into normalised log-mel features (batch, n_mels, frames)."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: FrontendConfig, time_stride: int = 1) -> None:
        """Build for an encoder that makes one token of `time_stride` frames.

        Raises ValueError when the window is longer than the transform or the bands do not fit below half the rate.
        """
        super().__init__()
        if config.win_length > config.n_fft:
            raise ValueError(f"frontend.win_length is {config.win_length}; it must be at most n_fft, {config.n_fft} samples")
        if not config.f_min < config.f_max <= config.sample_rate / 2:
            raise ValueError(f"frontend.f_max is {config.f_max:g}; it must lie above f_min and at most at {config.sample_rate / 2:g} Hz")
        self.config = config
        self.time_stride = time_stride
        self.lead = config.n_fft // 2 + (time_stride - 1) * config.hop_length // 2
        margin = config.n_fft - config.win_length
        window = F.pad(torch.hann_window(config.win_length), (margin // 2, margin - margin // 2))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def token_count(self, time: int) -> int:
        """Return how many tokens a clip of `time` samples has: one on every multiple of the token hop up to its end."""
        return time // (self.time_stride * self.config.hop_length) + 1

    def forward(self, waveform: Tensor, first: int = 0, frames: Optional[int] = None) -> Tensor:
        """Return features (batch, n_mels, frames), float32, of all frames or of `frames` frames from frame `first` on.

        Frames that reach beyond the clip see zeros there, so a slice equals the same frames of the whole.
        """
        count = self.token_count(waveform.shape[-1]) * self.time_stride if frames is None else frames
        start = first * self.config.hop_length - self.lead
        stop = start + (count - 1) * self.config.hop_length + self.config.n_fft
        inside = waveform[:, max(start, 0) : max(min(stop, waveform.shape[-1]), 0)].float()
        padded = F.pad(inside, (max(-start, 0), stop - max(start, 0) - inside.shape[-1]))
        with torch.autocast(waveform.device.type, enabled=False):
            return self.normalise(torch.log(self.mel_power(padded) + self.config.log_offset))

    def mel_power(self, padded: Tensor) -> Tensor:
        """Return mel power (batch, n_mels, frames) of a waveform whose first frame starts at its first sample."""
        config = self.config
        spectrum = torch.stft(padded, config.n_fft, config.hop_length, window=self.window, center=False, return_complex=True)
        power = spectrum.abs().pow(2.0)  # (batch, bins, frames)
        return torch.matmul(power.transpose(-1, -2), self.filters).transpose(-1, -2)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Shift and scale log-mel power (ln) by the fixed mean and standard deviation of the config."""
        return (log_mel - self.config.mean) / self.config.std
