"""Log spectrogram in plain torch: mel bands equal to torchaudio's MelSpectrogram (HTK scale, no filter norm, power 2), or pitch bands.

Frames are placed so that an encoder's tokens of `time_stride` frames are centred on multiples of the token hop, from 0 to
the end of the clip: token j covers frames j * stride .. j * stride + stride - 1, whose mean centre is sample
j * stride * hop_length. Normalisation uses two fixed numbers, never statistics of the input.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable, ContextManager, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import log_filters, mel_filters
from .options import FrontendConfig

CACHED_SAMPLES = 400_000  # in all frames at once: 1.6 MB, which fits the cache of a CPU


class LogMel(nn.Module):
    """Turn waveforms (batch, time) into normalised log features (batch, n_mels, frames)."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: FrontendConfig, time_stride: int = 1) -> None:
        """Build for an encoder whose tokens cover `time_stride` frames.

        Raises ValueError when window and transform lengths, or bands and sample rate, do not fit together.
        """
        super().__init__()
        check(config)
        self.config = config
        self.time_stride = time_stride
        self.lead = config.n_fft // 2 + (time_stride - 1) * config.hop_length // 2
        self.groups: List[Tuple[int, int]] = []
        if config.layout == "log":
            for length, first_bin, filters in log_filters(config):
                self._register(str(length), torch.hann_window(length), filters * (4.0 / length) ** 2)
                self.groups.append((length, first_bin))
        else:
            margin = config.n_fft - config.win_length
            self._register("", F.pad(torch.hann_window(config.win_length), (margin // 2, margin - margin // 2)), mel_filters(config))

    def _register(self, name: str, window: Tensor, filters: Tensor) -> None:
        self.register_buffer(f"window{name}", window, persistent=False)
        self.register_buffer(f"filters{name}", filters, persistent=False)

    def token_count(self, time: int) -> int:
        """Return the number of tokens of a clip of `time` samples: one at every multiple of the token hop up to its end."""
        return time // (self.time_stride * self.config.hop_length) + 1

    def forward(self, waveform: Tensor, first: int = 0, frames: Optional[int] = None) -> Tensor:
        """Return features (batch, n_mels, frames), float32, of all frames or of `frames` frames from frame `first` on.

        The clip is padded with zeros where frames reach beyond it, so a slice equals the same frames of the whole clip.
        """
        count = self.token_count(waveform.shape[-1]) * self.time_stride if frames is None else frames
        start = first * self.config.hop_length - self.lead
        stop = start + (count - 1) * self.config.hop_length + self.config.n_fft
        inside = waveform[:, max(start, 0) : max(min(stop, waveform.shape[-1]), 0)].float()
        padded = F.pad(inside, (max(-start, 0), stop - max(start, 0) - inside.shape[-1]))
        with no_autocast(waveform.device):
            power = self.pitch_power(padded) if self.groups else self.mel_power(padded)
            return self.normalise(torch.log(power + self.config.log_offset))

    def pitch_power(self, padded: Tensor) -> Tensor:
        """Return band power (batch, n_mels, frames), 1 for a sine of amplitude 1 at a band's centre; the windows share their centre."""
        return torch.cat([self._group_power(padded, length, first_bin) for length, first_bin in self.groups], 1)

    def _group_power(self, padded: Tensor, length: int, first_bin: int) -> Tensor:
        window, filters = getattr(self, f"window{length}"), getattr(self, f"filters{length}")
        margin = (self.config.n_fft - length) // 2
        bins = slice(first_bin, first_bin + filters.shape[0])

        def power(piece: Tensor) -> Tensor:
            spectrum = torch.stft(piece, length, self.config.hop_length, window=window, center=False, return_complex=True)[:, bins]
            squares = spectrum.real.square() + spectrum.imag.square()
            return torch.matmul(squares.transpose(-1, -2), filters).transpose(-1, -2)

        return in_pieces(power, padded[:, margin : padded.shape[1] - margin], length, self.config.hop_length)

    def mel_power(self, padded: Tensor) -> Tensor:
        """Return mel power (batch, n_mels, frames) of a waveform whose first frame starts at its first sample."""
        n_fft, hop_length = self.config.n_fft, self.config.hop_length

        def power(piece: Tensor) -> Tensor:
            spectrum = torch.stft(piece, n_fft, hop_length, window=self.window, center=False, return_complex=True)
            return torch.matmul(spectrum.abs().pow(2.0).transpose(-1, -2), self.filters).transpose(-1, -2)

        return in_pieces(power, padded, n_fft, hop_length)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Shift and scale log power (ln) by the fixed mean and standard deviation of the config."""
        return (log_mel - self.config.mean) / self.config.std


def no_autocast(device: torch.device) -> ContextManager[Any]:
    """Return a context without autocast on a device. Before torch 2.5 Apple GPUs have no autocast, so there is nothing to disable."""
    if device.type != "mps":
        return torch.autocast(device.type, enabled=False)
    try:
        return torch.autocast("mps", enabled=False)
    except RuntimeError:
        return nullcontext()


def in_pieces(power: Callable[[Tensor], Tensor], waveform: Tensor, length: int, hop_length: int) -> Tensor:
    """Return power(waveform) (batch, bands, frames), computed on as many frames of `length` samples at once as fit a CPU's cache."""
    frames = (waveform.shape[1] - length) // hop_length + 1
    at_once = max(1, CACHED_SAMPLES // length)
    if waveform.device.type != "cpu" or waveform.shape[0] * frames <= at_once:
        return power(waveform)
    starts = range(0, frames, at_once)
    cuts = [slice(start * hop_length, (min(start + at_once, frames) - 1) * hop_length + length) for start in starts]
    return torch.cat([torch.cat([power(rows[:, cut]) for cut in cuts], -1) for rows in torch.split(waveform, max(1, at_once // frames))])


def check(config: FrontendConfig) -> None:
    """Raise ValueError when window and transform lengths, or bands and sample rate, do not fit together."""
    if config.layout == "mel" and config.win_length > config.n_fft:
        raise ValueError(f"frontend.win_length is {config.win_length}; it must be at most n_fft, {config.n_fft} samples")
    if config.layout == "log" and config.n_fft not in [config.min_window << doublings for doublings in range(16)]:
        raise ValueError(f"frontend.n_fft is {config.n_fft}; it must be min_window, {config.min_window}, times 1, 2, 4, 8, ...")
    if config.layout == "log" and config.f_min <= 0:
        raise ValueError("frontend.f_min is 0; the log layout needs a lowest pitch, such as 40 Hz")
    if not config.f_min < config.f_max <= config.sample_rate / 2:
        raise ValueError(f"frontend.f_max is {config.f_max:g}; it must lie above f_min and at most at {config.sample_rate / 2:g} Hz")
