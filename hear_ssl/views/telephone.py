"""A telephone line: 300 to 3400 Hz at a sample rate of 8 kHz, quantised by the mu-law with 8 bits (ITU-T G.711 and G.712)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torchaudio.functional as AF
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.filters import filtered
from hear_ssl.views.resampled import resampled
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes

RATE, LEVELS = 8000, 256
BAND, STOPS = (300.0, 3400.0), (150.0, 3950.0)  # Hz: gain 1 within the band, 0 outside the stops


class Telephone(Sometimes):
    """A telephone line: 300 to 3400 Hz, 8 kHz, 8 bits of mu-law."""

    @dataclass(frozen=True)
    class Options:
        """Options of the line."""

        chance: float = option(0.2, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, sample_rate: int, chance: float = Options.chance) -> None:
        super().__init__(chance)
        self.sample_rate = sample_rate

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return nothing, since the line has no random parameters."""
        return ()

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return waveforms after transmission; the line clips beyond full scale."""
        line = filtered(resampled(x, self.sample_rate, RATE), RATE, band)
        coded = AF.mu_law_decoding(AF.mu_law_encoding(line.clamp(-1.0, 1.0), LEVELS), LEVELS)
        return resampled(coded, RATE, self.sample_rate)[..., : x.shape[-1]]


def band(hertz: Tensor) -> Tensor:
    """Return the gain of the line at frequencies in Hz (bins,): half a cosine from each stop to the band."""
    below = ((BAND[0] - hertz) / (BAND[0] - STOPS[0])).clamp(0.0, 1.0)
    above = ((hertz - BAND[1]) / (STOPS[1] - BAND[1])).clamp(0.0, 1.0)
    return 0.5 + 0.5 * torch.cos(math.pi * torch.maximum(below, above))
