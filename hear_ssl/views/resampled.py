"""Change of speed or pitch: resampling by a ratio of small integers, so that clips with the same ratio are computed together.

A pitch shift stretches time, see `stretch`, then resamples to the original length.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.filters import fast_length
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes
from hear_ssl.views.stretch import stretched

LARGEST = 24  # numerator or denominator: 24/23 is less than a semitone; the resampling kernel grows with them
MOST = 2  # an octave
ZERO_CROSSINGS = 32  # of the resampling kernel, on each side
HOP_SECONDS = 0.016  # of the phase vocoder


def fraction(ratio: str) -> Fraction:
    """Return a ratio such as 9/8. Raises ValueError when it is not a ratio of small integers, or more than an octave."""
    numbers = [int(number) if number.isdecimal() else 0 for number in ratio.replace(" ", "").split("/")]
    if len(numbers) != 2 or not all(0 < number <= LARGEST for number in numbers) or not 1 / MOST <= numbers[0] / numbers[1] <= MOST:
        raise ValueError(f"ratios has {ratio!r:.40}; give ratios of whole numbers up to {LARGEST}, from 1/{MOST} to {MOST}/1, such as 9/8")
    return Fraction(*numbers)


def resampled(x: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Return waveforms (..., time) at another sample rate, in full float32 also on a GPU."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found: Tensor = AF.resample(x, from_rate, to_rate, lowpass_filter_width=ZERO_CROSSINGS)
    return found


def of_length(x: Tensor, samples: int) -> Tensor:
    """Return waveforms (batch, time) cut or padded with silence to `samples`."""
    return F.pad(x, (0, samples - x.shape[-1])) if x.shape[-1] < samples else x[..., :samples]


class ByRatio(Sometimes):
    """A change by a ratio drawn from a list."""

    def __init__(self, ratios: tuple[str, ...], chance: float) -> None:
        super().__init__(chance)
        self.ratios = [fraction(ratio) for ratio in ratios]

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the index of the ratio (batch,)."""
        return (random.integers(len(self.ratios), 1).squeeze(1),)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return changed waveforms, computed in one batch per ratio."""
        (choice,), changed = drawn, torch.empty_like(x)
        for number, ratio in enumerate(self.ratios):
            rows = (choice == number).nonzero().squeeze(1)
            if len(rows):
                changed[rows] = self.by(x[rows], ratio)
        return changed

    def by(self, x: Tensor, ratio: Fraction) -> Tensor:
        """Return waveforms of the same shape, changed by one ratio."""
        raise NotImplementedError

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise ValueError when a ratio is not one of small integers within an octave."""
        super().check(options, sample_rate)
        if not options.ratios:
            raise ValueError("ratios is empty; give some, such as [8/9, 9/8]")
        for ratio in options.ratios:
            fraction(ratio)


class Speed(ByRatio):
    """Change the speed, and with it tempo and pitch; a faster clip is padded with silence, a slower one is cut at its end."""

    @dataclass(frozen=True)
    class Options:
        """Options of the change."""

        ratios: tuple[str, ...] = option(("4/5", "9/10", "10/9", "5/4"), "speeds to draw from; above 1 is faster")
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, ratios: tuple[str, ...] = Options.ratios, chance: float = Options.chance) -> None:
        super().__init__(ratios, chance)

    def by(self, x: Tensor, ratio: Fraction) -> Tensor:
        """Return waveforms played at a speed."""
        return of_length(resampled(x, ratio.numerator, ratio.denominator), x.shape[-1])

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return true unless all speeds are 1."""
        return options.chance > 0 and any(fraction(ratio) != 1 for ratio in options.ratios)


class PitchShift(ByRatio):
    """Change the pitch at the same tempo, by a phase vocoder, which blurs attacks.

    16/15 is a semitone, 9/8 a whole tone, 6/5 three semitones. It is the slowest of all augmentations and no recipe uses it: at 32 kHz, a
    clip of 2 s takes more than 5 ms on one core.
    """

    @dataclass(frozen=True)
    class Options:
        """Options of the shift."""

        ratios: tuple[str, ...] = option(("8/9", "15/16", "16/15", "9/8"), "frequency ratios to draw from; above 1 is higher")
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, sample_rate: int, ratios: tuple[str, ...] = Options.ratios, chance: float = Options.chance) -> None:
        super().__init__(ratios, chance)
        self.hop = fast_length(round(HOP_SECONDS * sample_rate))

    def by(self, x: Tensor, ratio: Fraction) -> Tensor:
        """Return waveforms with all frequencies multiplied by a ratio."""
        longer = stretched(x, ratio, self.hop)
        return of_length(resampled(longer, ratio.numerator, ratio.denominator), x.shape[-1])
