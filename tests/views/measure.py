"""Waveforms to augment, one augmentation at a time, and what is measured on the result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from hear_ssl.model.options import FrontendConfig, Part, options_of
from hear_ssl.views import AUGMENTATIONS, Augmentation, ViewConfig
from hear_ssl.views.views import Views

RATE, TIME = 16000, 32000
SEEDS = torch.arange(8) * 7919 + 3
BINS_PER_HZ = 16  # of `peak_hz`
NEEDS_FOLDER = {"background"}


def views(name: str, samples: int = TIME, rate: int = RATE, **options: Any) -> Views:
    """Return one view that one augmentation changes; its options are checked as those of a config."""
    kind = AUGMENTATIONS[name]
    part = Part(name, kind, options_of(kind)(**options))
    kind.check(part.options, rate)
    return Views([ViewConfig(0, (part,))], FrontendConfig(sample_rate=rate, f_max=0.4 * rate), [samples], [100])


def changed(name: str, x: Tensor, seeds: Tensor = SEEDS, rate: int = RATE, **options: Any) -> Tensor:
    """Return waveforms (time,) or (batch, time) as an augmentation of every clip changes them; one clip is repeated for each seed."""
    x = x.expand(len(seeds), -1) if x.ndim == 1 else x
    chance = {"chance": 1.0} if hasattr(options_of(AUGMENTATIONS[name])(), "chance") else {}
    return views(name, x.shape[-1], rate, **{**chance, **options}).waveforms([x], seeds)[0]


def part_of(made: Views) -> Augmentation:
    """Return the only augmentation of views."""
    (part,) = (part for part in made.modules() if isinstance(part, Augmentation))
    return part


def sine(hertz: float, samples: int = TIME, rate: int = RATE) -> Tensor:
    """Return a sine of amplitude 0.5 (samples,)."""
    return 0.5 * torch.sin(2 * math.pi * hertz / rate * torch.arange(samples, dtype=torch.float64)).float()


def noise(batch: int = len(SEEDS), samples: int = TIME) -> Tensor:
    """Return white noise (batch, samples)."""
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))


def impulse(place: int = 0, samples: int = TIME) -> Tensor:
    """Return a unit impulse (samples,)."""
    return torch.nn.functional.one_hot(torch.tensor(place), samples).float()


def power_db(x: Tensor) -> Tensor:
    """Return the mean power (...) in dB."""
    return 10 * torch.log10(x.double().square().mean(-1))


def spectrum(x: Tensor) -> Tensor:
    """Return the power (..., bins) at 0 Hz to half the sample rate of the middle of waveforms, through a Blackman window."""
    middle = x.double()[..., x.shape[-1] // 8 : -x.shape[-1] // 8]
    return torch.fft.rfft(middle * torch.blackman_window(middle.shape[-1], dtype=torch.float64)).abs().square()


def share_db(x: Tensor, low: float, high: float, rate: int = RATE) -> Tensor:
    """Return the power of waveforms between two frequencies in Hz, as a share of all of it, in dB."""
    power = spectrum(x)
    hertz = torch.linspace(0, rate / 2, power.shape[-1])
    return 10 * torch.log10(power[..., (hertz >= low) & (hertz <= high)].sum(-1) / power.sum(-1))


def peak_hz(x: Tensor, rate: int = RATE) -> Tensor:
    """Return the frequency of the largest peak of the spectrum (...), between two bins by a parabola through their logarithms."""
    window = torch.blackman_window(x.shape[-1], dtype=torch.float64)
    length = BINS_PER_HZ * rate
    levels = torch.fft.rfft(x.double() * window, length).abs().log()
    place = levels.argmax(-1, keepdim=True)
    below, at, above = (levels.gather(-1, place + step) for step in (-1, 0, 1))
    return ((place + 0.5 * (below - above) / (below - 2 * at + above)) / BINS_PER_HZ).squeeze(-1)


def write(folder: Path, rate: int = RATE, **sounds: Tensor) -> Path:
    """Write sounds (samples,) as WAV files in float32, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound.numpy(), rate, subtype="FLOAT")
    return folder
