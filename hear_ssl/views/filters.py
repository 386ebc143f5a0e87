"""Filters of waveforms, applied to their spectra: an equaliser, low-pass, high-pass, and the band of a lower sample rate.

The second-order filters are those of Bristow-Johnson's Cookbook formulae for audio EQ biquad filter coefficients
(https://www.w3.org/TR/audio-eq-cookbook/), as in torchaudio's `lowpass_biquad`, `highpass_biquad` and `equalizer_biquad`. Each is an
analogue prototype H(s) at s = j tan(w / 2) / tan(w0 / 2), so its response is exact without coefficients. It is multiplied with the
spectrum of a zero-padded clip, which applies different filters to a batch at once, without a recursion over samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes, within, within_octaves

BUTTERWORTH = math.sqrt(0.5)  # quality factor of a second-order filter without a peak
TAIL_SECONDS = 0.12  # zeros after a clip; a longer response would wrap around to its start; at 20 Hz it has decayed by 90 dB
NEARLY_HALF = math.pi / 2 - 1e-4  # instead of half the sample rate, where the tangent has a pole
Response = Callable[[Tensor], Tensor]  # of frequencies in Hz (bins,): complex or real (batch, bins)


@cache
def fast_length(samples: int) -> int:
    """Return the shortest length of at least `samples` whose only prime factors are 2, 3 and 5, for a fast Fourier transform."""
    lengths: list[int] = [2**a * 3**b * 5**c for a in range(25) for b in range(5) for c in range(4)]
    return min(length for length in lengths if length >= samples)


def filtered(x: Tensor, sample_rate: int, response: Response) -> Tensor:
    """Return waveforms (batch, time) through a linear filter of the given response."""
    samples = x.shape[-1]
    length = fast_length(samples + round(TAIL_SECONDS * sample_rate))
    hertz = torch.arange(length // 2 + 1, device=x.device) * (sample_rate / length)
    whole: Tensor = torch.fft.irfft(torch.fft.rfft(x, length) * response(hertz), length)
    return whole[..., :samples]


def prototype_frequency(hertz: Tensor, centre: Tensor, sample_rate: int) -> Tensor:
    """Return tan(w / 2) / tan(w0 / 2) (batch, bins) of frequencies (bins,) for centres (batch, 1), both in Hz."""
    tangent = torch.tan((math.pi / sample_rate * hertz).clamp(max=NEARLY_HALF))
    return tangent / torch.tan((math.pi / sample_rate * centre).clamp(max=NEARLY_HALF))


def low_pass(frequency: Tensor) -> Tensor:
    """Return the response of a second-order Butterworth low-pass, 1 / (s^2 + s / Q + 1), at s = j * frequency."""
    return 1.0 / torch.complex(1.0 - frequency.square(), frequency / BUTTERWORTH)


def high_pass(frequency: Tensor) -> Tensor:
    """Return the response of a second-order Butterworth high-pass, s^2 / (s^2 + s / Q + 1), at s = j * frequency."""
    return -frequency.square() / torch.complex(1.0 - frequency.square(), frequency / BUTTERWORTH)


def peak(frequency: Tensor, gain_db: Tensor, quality: float) -> Tensor:
    """Return the response of a peaking filter, (s^2 + s A / Q + 1) / (s^2 + s / (A Q) + 1) with A^2 the gain, at s = j * frequency."""
    amplitude, rest = 10.0 ** (gain_db / 40.0), 1.0 - frequency.square()
    return torch.complex(rest, frequency * amplitude / quality) / torch.complex(rest, frequency / (amplitude * quality))


class AtFrequency(Sometimes):
    """A filter at a random frequency; a subclass defines its response."""

    def __init__(self, sample_rate: int, hz: tuple[float, ...], chance: float) -> None:
        super().__init__(chance)
        self.sample_rate, self.hz = sample_rate, hz

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the frequency in Hz."""
        return (within_octaves(self.hz, random),)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return filtered waveforms."""
        (centre,) = drawn
        return filtered(x, self.sample_rate, lambda hertz: self.response(hertz, centre))

    def response(self, hertz: Tensor, centre: Tensor) -> Tensor:
        """Return the response (batch, bins) at frequencies (bins,) of filters at frequencies (batch, 1), in Hz."""
        raise NotImplementedError


class LowPass(AtFrequency):
    """A low-pass filter: -3 dB at a random frequency, -12 dB per octave above."""

    @dataclass(frozen=True)
    class Options:
        """Options of the filter."""

        hz: tuple[float, ...] = option((1000.0, 7000.0), "lowest and highest frequency at which it is -3 dB", "Hz", 10.0, 24000.0)
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, sample_rate: int, hz: tuple[float, ...] = Options.hz, chance: float = Options.chance) -> None:
        super().__init__(sample_rate, hz, chance)

    def response(self, hertz: Tensor, centre: Tensor) -> Tensor:
        """Return the response, -3 dB at `centre`."""
        return low_pass(prototype_frequency(hertz, centre, self.sample_rate))


class HighPass(AtFrequency):
    """A high-pass filter: -3 dB at a random frequency, -12 dB per octave below."""

    @dataclass(frozen=True)
    class Options:
        """Options of the filter."""

        hz: tuple[float, ...] = option((50.0, 500.0), "lowest and highest frequency at which it is -3 dB", "Hz", 10.0, 24000.0)
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, sample_rate: int, hz: tuple[float, ...] = Options.hz, chance: float = Options.chance) -> None:
        super().__init__(sample_rate, hz, chance)

    def response(self, hertz: Tensor, centre: Tensor) -> Tensor:
        """Return the response, -3 dB at `centre`."""
        return high_pass(prototype_frequency(hertz, centre, self.sample_rate))


class Equaliser(Sometimes):
    """An equaliser: peaking filters at random frequencies, each with a random gain."""

    @dataclass(frozen=True)
    class Options:
        """Options of the equaliser."""

        bands: int = option(3, "peaking filters", "filters", 1, 16)
        db: float = option(6.0, "largest gain of a filter, up or down", "dB", 0.0, 30.0)
        hz: tuple[float, ...] = option((80.0, 6000.0), "lowest and highest frequency of a filter", "Hz", 10.0, 24000.0)
        quality: float = option(1.0, "frequency of a filter divided by its width", "", 0.1, 20.0)
        chance: float = option(0.8, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(
        self,
        sample_rate: int,
        bands: int = Options.bands,
        db: float = Options.db,
        hz: tuple[float, ...] = Options.hz,
        quality: float = Options.quality,
        chance: float = Options.chance,
    ) -> None:
        super().__init__(chance)
        self.sample_rate, self.bands, self.db, self.hz, self.quality = sample_rate, bands, db, hz, quality

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the frequencies in Hz and the gains in dB, each (batch, bands)."""
        places = [(within_octaves(self.hz, random), within((-self.db, self.db), random)) for _ in range(self.bands)]
        centres, gains = zip(*places, strict=True)
        return torch.cat(centres, 1), torch.cat(gains, 1)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return equalised waveforms."""
        centres, gains = (torch.split(one, 1, 1) for one in drawn)

        def response(hertz: Tensor) -> Tensor:
            each = (
                peak(prototype_frequency(hertz, centre, self.sample_rate), gain, self.quality)
                for centre, gain in zip(centres, gains, strict=True)
            )
            return torch.stack(list(each)).prod(0)

        return filtered(x, self.sample_rate, response)


class LowRate(AtFrequency):
    """The band of a recording at a lower sample rate: nothing above half of it."""

    @dataclass(frozen=True)
    class Options:
        """Options of the band."""

        hz: tuple[float, ...] = option((1800.0, 7000.0), "lowest and highest end of the band, half the lower rate", "Hz", 100.0, 24000.0)
        chance: float = option(0.3, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(self, sample_rate: int, hz: tuple[float, ...] = Options.hz, chance: float = Options.chance) -> None:
        super().__init__(sample_rate, hz, chance)

    def response(self, hertz: Tensor, centre: Tensor) -> Tensor:
        """Return a gain of 1 up to 0.9 of `centre`, the end of the band, then half a cosine down to 0, which limits ringing."""
        return 0.5 + 0.5 * torch.cos(math.pi * ((hertz / centre - 0.9) / 0.1).clamp(0.0, 1.0))
