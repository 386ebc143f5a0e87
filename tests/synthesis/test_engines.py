"""The engines obey physics: pitch, decay times, filter slopes, noise power."""

from __future__ import annotations

import numpy as np
import pytest

from hear_ssl.synthesis.engines import (
    bandpass,
    damped_modes,
    envelope,
    fast_length,
    frame_times,
    harmonic_tone,
    interpolate_log,
    lowpass,
    noise_frequencies,
    normalise_peak,
    shaped_noise,
)
from tests.synthesis.measure import RATE, decay_rate, peak_frequency, spectrum


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("frequency", [110.0, 440.0, 3000.0])
def test_harmonic_tone_has_its_peak_at_the_fundamental(rate: int, frequency: float) -> None:
    amplitudes = np.tile(1.0 / np.arange(1, 41), (len(frame_times(rate, rate)), 1))
    tone = harmonic_tone(np.full(rate, frequency), amplitudes, rate)
    assert peak_frequency(tone, rate) == pytest.approx(frequency, rel=1e-3)


def test_harmonic_tone_does_not_alias() -> None:
    amplitudes = np.tile(1.0 / np.arange(1, 41), (len(frame_times(RATE, RATE)), 1))
    frequencies, magnitude = spectrum(harmonic_tone(np.full(RATE, 1234.0), amplitudes, RATE))
    off = np.abs(frequencies / 1234.0 - np.round(frequencies / 1234.0)) * 1234.0 > 20.0
    assert 20 * np.log10(magnitude[off].max() / magnitude.max()) < -38.0


def test_harmonic_tone_follows_amplitudes_in_time() -> None:
    times = frame_times(RATE, RATE)
    amplitudes = np.stack([np.where(times < 0.5, 1.0, 0.0), np.where(times < 0.5, 0.0, 1.0)], axis=1)
    tone = harmonic_tone(np.full(RATE, 500.0), amplitudes, RATE)
    assert peak_frequency(tone[: RATE // 2 - 400]) == pytest.approx(500.0, rel=1e-3)
    assert peak_frequency(tone[RATE // 2 + 400 :]) == pytest.approx(1000.0, rel=1e-3)


def test_damped_modes_equal_the_closed_form() -> None:
    time = np.arange(5000) / RATE
    expected = 0.7 * np.sin(2 * np.pi * 440 * time + 0.3) * 10 ** (-3 * time / 0.4) + 0.2 * np.sin(2 * np.pi * 991 * time) * 10 ** (
        -3 * time / 0.1
    )
    given = damped_modes(np.array([440.0, 991.0]), np.array([0.4, 0.1]), np.array([0.7, 0.2]), np.array([0.3, 0.0]), 5000, RATE)
    np.testing.assert_allclose(given, expected, atol=2e-5)


@pytest.mark.parametrize("seconds", [0.2, 0.8])
def test_mode_falls_by_60_db_in_its_decay_time(seconds: float) -> None:
    tone = damped_modes(np.array([700.0]), np.array([seconds]), np.ones(1), np.zeros(1), RATE, RATE)
    assert decay_rate(tone) == pytest.approx(60.0 / seconds, rel=0.02)


def test_envelope_has_its_attack_sustain_and_release() -> None:
    time = np.arange(2 * RATE) / RATE
    shape = envelope(time, attack=0.1, decay=0.3, sustain=0.5, hold=1.0, release=0.4)
    assert shape[RATE // 20] == pytest.approx(0.5, abs=0.01)
    assert shape.argmax() == pytest.approx(0.1 * RATE, abs=2)
    assert shape[round(0.9 * RATE)] == pytest.approx(0.5, abs=0.01)
    assert 20 * np.log10(shape[round(1.4 * RATE)] / shape[RATE]) == pytest.approx(-60.0, abs=0.5)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_white_noise_is_white_with_unit_power(rate: int) -> None:
    response = np.ones((len(frame_times(4 * rate, rate)), len(noise_frequencies(rate))))
    noise = shaped_noise(response, 4 * rate, rate, np.random.default_rng(0))
    assert noise.shape == (4 * rate,)
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    bands = np.square(np.abs(np.fft.rfft(noise)))[: 2 * rate].reshape(8, -1).mean(axis=1)
    assert bands.max() / bands.min() < 1.15


def test_lowpass_removes_12_db_per_octave_from_noise() -> None:
    bins = noise_frequencies(RATE)
    response = np.tile(lowpass(bins, 500.0, 0.707), (len(frame_times(8 * RATE, RATE)), 1))
    noise = shaped_noise(response, 8 * RATE, RATE, np.random.default_rng(1))
    frequencies, magnitude = spectrum(noise)

    def level(center: float) -> float:
        near = np.abs(frequencies / center - 1) < 0.1
        return float(10 * np.log10(np.square(magnitude[near]).mean()))

    assert level(100.0) - level(500.0) == pytest.approx(3.0, abs=1.0)
    assert level(1000.0) - level(2000.0) == pytest.approx(12.0, abs=1.0)
    assert level(2000.0) - level(4000.0) == pytest.approx(12.0, abs=1.0)


def test_bandpass_is_3_db_down_at_the_edges_of_its_band() -> None:
    edges = np.array([1000.0, 1000.0 * (np.sqrt(1 + 1 / 64) - 1 / 8), 1000.0 * (np.sqrt(1 + 1 / 64) + 1 / 8)])
    np.testing.assert_allclose(bandpass(edges, 1000.0, 4.0), [1.0, np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-6)


@pytest.mark.parametrize("samples", [17, 1000, 12345, 131072, 131073])
def test_fast_length_is_enough_and_not_much_more(samples: int) -> None:
    assert samples <= fast_length(samples) <= 1.21 * samples


def test_peaks_are_normalised_and_silence_stays_silent() -> None:
    assert np.abs(normalise_peak(np.array([0.1, -0.4, 0.2]))).max() == 1.0
    assert np.array_equal(normalise_peak(np.zeros(3)), np.zeros(3))


def test_logarithmic_interpolation_has_equal_ratios() -> None:
    np.testing.assert_allclose(
        [interpolate_log((50.0, 800.0), position) for position in (0.0, 0.25, 0.5, 1.0)], [50.0, 100.0, 200.0, 800.0]
    )
