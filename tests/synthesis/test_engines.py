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
    lowpass,
    noise_frequencies,
    shaped_noise,
)
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.scene import KINDS, render_note, room_response
from hear_ssl.synthesis.tones import Note, string_modes

RATE = 16000


def spectrum(waveform: Array, rate: int = RATE) -> tuple[Array, Array]:
    """Return frequencies and magnitudes under a Hann window."""
    return np.fft.rfftfreq(len(waveform), 1 / rate), np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))


def peak_frequency(waveform: Array, rate: int = RATE) -> float:
    """Return the frequency of the strongest bin, refined by a parabola through the log magnitudes of its neighbours."""
    frequencies, magnitude = spectrum(waveform, rate)
    k = int(magnitude[1:-1].argmax()) + 1
    a, b, c = np.log(magnitude[k - 1 : k + 2] + 1e-12)
    return float((k + 0.5 * (a - c) / (a - 2 * b + c)) * frequencies[1])


def decay_rate(waveform: Array, rate: int = RATE) -> float:
    """Return by how many dB per second the level falls, by a line through the levels of 20 ms blocks."""
    block = rate // 50
    level = 10 * np.log10(np.square(waveform[: len(waveform) // block * block]).reshape(-1, block).mean(axis=1) + 1e-20)
    heard = level > level.max() - 50
    return float(-np.polyfit(np.arange(len(level))[heard] * 0.02, level[heard], 1)[0])


def mid_values(kind: str, **changed: float) -> dict[str, float]:
    """Return the values in the middle of a kind's space, with some of them changed."""
    return {**{coordinate.name: coordinate.value(0.5) for coordinate in KINDS[kind][0]}, **changed}


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


def test_room_tail_falls_by_60_db_in_its_reverberation_time() -> None:
    tail = room_response(0.8, RATE, np.random.default_rng(4))
    low = np.fft.rfft(tail)
    low[np.fft.rfftfreq(len(tail), 1 / RATE) > 300.0] = 0.0
    assert decay_rate(np.fft.irfft(low)[: round(0.6 * RATE)]) == pytest.approx(75.0, rel=0.15)
    assert decay_rate(tail[: round(0.3 * RATE)]) > 75.0
    assert np.sum(tail**2) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("samples", [17, 1000, 12345, 131072, 131073])
def test_fast_length_is_enough_and_not_much_more(samples: int) -> None:
    assert samples <= fast_length(samples) <= 1.21 * samples
