"""Tonal instruments have the pitch of their note, and the string decays as its loop does."""

from __future__ import annotations

import numpy as np
import pytest

from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.scene import KINDS, render_note
from hear_ssl.synthesis.tones import Note, string_modes, waveform_harmonics
from tests.synthesis.measure import RATE, decay_rate, peak_frequency, spectrum


def mid_values(kind: str, **changed: float) -> dict[str, float]:
    """Return the values in the middle of a kind's space, with some of them changed."""
    return {**{coordinate.name: coordinate.value(0.5) for coordinate in KINDS[kind][0]}, **changed}


def karplus_strong(burst: Array, samples: int) -> Array:
    """The loop of the paper, sample by sample: y[n] = (y[n - N] + y[n - N - 1]) / 2 after the burst of N samples."""
    y = np.zeros(samples)
    y[: len(burst)] = burst
    for n in range(len(burst), samples):
        y[n] = 0.5 * (y[n - len(burst)] + (y[n - len(burst) - 1] if n > len(burst) else 0.0))
    return y


def test_string_decays_as_the_karplus_strong_loop_does() -> None:
    period = 60
    loop = karplus_strong(np.random.default_rng(2).standard_normal(period), RATE)
    fundamental = RATE / (period + 0.5)  # the averaging filter delays by half a sample
    assert peak_frequency(loop[4000:]) == pytest.approx(fundamental, rel=2e-3)
    values = {"loss_seconds": 1e9, "damping": 1.0, "stiffness": 0.0}
    frequencies, decays = string_modes(values, fundamental, RATE)
    for harmonic in (2, 5, 8):
        band = np.fft.rfft(loop)
        band[np.abs(np.fft.rfftfreq(RATE, 1 / RATE) - frequencies[harmonic - 1]) > 0.4 * fundamental] = 0.0
        measured = decay_rate(np.fft.irfft(band)[800 : 800 + round(min(0.5, decays[harmonic - 1] / 2) * RATE)])
        assert measured == pytest.approx(60.0 / decays[harmonic - 1], rel=0.1)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("voice", {"wave": 2.0, "vibrato_cents": 1.0, "glide_semitones": 0.0, "second": 0.0, "noise": -60.0}),
        ("string", {"stiffness": 1e-6, "softness": 1.0, "body": 0.0}),
        ("struck", {"material": 1.0, "stretch": 1.0, "hardness": 2.0, "split_cents": 0.5, "position": 0.1}),
        ("fm", {"ratio": 0.1, "index": 0.3, "vibrato_cents": 1.0, "second_level": 0.0}),
    ],
)
def test_a4_sounds_at_440_hz(kind: str, changed: dict[str, float]) -> None:
    note = Note(69.0, 0.9, RATE, RATE, np.random.default_rng(3))
    sound = render_note(kind, mid_values(kind, **changed), note)
    frequencies, magnitude = spectrum(np.pad(sound, (0, RATE - len(sound))))
    near = (frequencies > 400) & (frequencies < 480)
    assert frequencies[near][magnitude[near].argmax()] == pytest.approx(440.0, abs=3.0)
    below = frequencies < 400
    assert magnitude[below].max() < 0.3 * magnitude[near].max()


def test_waves_have_the_harmonics_of_their_fourier_series() -> None:
    np.testing.assert_allclose(waveform_harmonics(0.0, 4), [1.0, 0.0, 0.0, 0.0])  # sine
    np.testing.assert_allclose(waveform_harmonics(2.0, 4), [1.0, 1 / 2, 1 / 3, 1 / 4])  # saw
    np.testing.assert_allclose(waveform_harmonics(3.0, 4), [1.0, 0.0, 1 / 3, 0.0])  # square
    np.testing.assert_allclose(waveform_harmonics(2.5, 2), [1.0, 0.25])  # half saw, half square
