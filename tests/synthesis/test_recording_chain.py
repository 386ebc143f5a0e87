"""The recording chain obeys physics: reverberation time, filter slopes, noise spectra, saturation, peak level."""

from __future__ import annotations

import numpy as np
import pytest

from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recording_chain import Filters, coloured_noise, draw_filters, record, room_tail, saturate
from tests.synthesis.measure import RATE, decay_rate

FLAT = Filters(resonance_hz=1000.0, tilt_db=0.0, resonance_db=0.0, lowpass_hz=None, highpass_hz=None)


def reverberation_time(response: Array) -> float:
    """Return the RT60 in seconds of an impulse response: Schroeder's backward integral, a line from -5 to -25 dB (T20)."""
    energy = np.cumsum(np.square(response)[::-1])[::-1]
    level = 10 * np.log10(energy / energy[0])
    line = np.flatnonzero((level < -5) & (level > -25))
    return float(-60.0 / np.polyfit(line / RATE, level[line], 1)[0])


def level_at(filters: Filters, *hertz: float) -> list[float]:
    """Return the gain in dB of filters at frequencies in Hz."""
    return (20 * np.log10(filters.response(np.array(hertz)))).tolist()


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 1.2])
def test_a_room_falls_by_60_db_in_its_reverberation_time(seconds: float) -> None:
    tail = room_tail(np.random.default_rng(0).standard_normal(2 * RATE), seconds)
    assert reverberation_time(tail) == pytest.approx(seconds, rel=0.05)
    assert decay_rate(tail[: round(0.6 * seconds * RATE)]) == pytest.approx(60.0 / seconds, rel=0.15)


def test_the_spectrum_of_a_room_is_flat() -> None:
    power = np.square(np.abs(np.fft.rfft(room_tail(np.random.default_rng(1).standard_normal(2 * RATE), 1.0))))
    bands = power[: RATE // 8 * 8].reshape(8, -1).mean(axis=1)
    assert bands.max() / bands.min() < 1.3


def test_no_filter_changes_nothing() -> None:
    np.testing.assert_allclose(level_at(FLAT, 50.0, 1000.0, 8000.0), 0.0, atol=1e-9)


def test_the_tilt_is_in_db_per_octave_about_1_khz() -> None:
    tilted = Filters(1000.0, tilt_db=2.0, resonance_db=0.0, lowpass_hz=None, highpass_hz=None)
    np.testing.assert_allclose(level_at(tilted, 500.0, 1000.0, 4000.0), [-2.0, 0.0, 4.0], atol=0.01)


def test_the_resonance_has_its_gain_at_its_frequency() -> None:
    peaked = Filters(800.0, tilt_db=0.0, resonance_db=9.0, lowpass_hz=None, highpass_hz=None)
    low, at, high = level_at(peaked, 20.0, 800.0, 8000.0)
    assert at == pytest.approx(9.0)
    assert 0.0 < low < 0.5
    assert 0.0 < high < 1.0


def test_the_lowpass_is_3_db_down_at_its_frequency_and_falls_by_18_db_per_octave() -> None:
    filters = Filters(1000.0, 0.0, 0.0, lowpass_hz=500.0, highpass_hz=None)
    passed, edge, octaves_4, octaves_5 = level_at(filters, 50.0, 500.0, 8000.0, 16000.0)
    assert passed == pytest.approx(0.0, abs=0.01)
    assert edge == pytest.approx(-3.01, abs=0.01)
    assert octaves_4 - octaves_5 == pytest.approx(18.06, abs=0.05)


def test_the_highpass_is_3_db_down_at_its_frequency_and_falls_by_12_db_per_octave() -> None:
    filters = Filters(1000.0, 0.0, 0.0, lowpass_hz=None, highpass_hz=640.0)
    octaves_5, octaves_4, edge, passed = level_at(filters, 20.0, 40.0, 640.0, 8000.0)
    assert passed == pytest.approx(0.0, abs=0.01)
    assert edge == pytest.approx(-3.01, abs=0.01)
    assert octaves_4 - octaves_5 == pytest.approx(12.04, abs=0.05)


@pytest.mark.parametrize(("exponent", "db_per_octave"), [(0.0, 0.0), (0.5, 3.01)])
def test_noise_falls_by_its_colour(exponent: float, db_per_octave: float) -> None:
    noise = coloured_noise(np.random.default_rng(2).standard_normal(8 * RATE), exponent, 8 * RATE)
    power = np.square(np.abs(np.fft.rfft(noise)))
    hertz = np.fft.rfftfreq(len(noise), 1.0 / RATE)
    levels = [10 * np.log10(power[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (250, 500, 1000, 2000)]
    assert -np.polyfit(range(4), levels, 1)[0] == pytest.approx(db_per_octave, abs=0.3)
    assert np.abs(noise).max() == pytest.approx(1.0)


def test_saturation_is_linear_when_quiet_and_squares_when_loud() -> None:
    sine = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(saturate(sine, -40.0), sine, atol=1e-4)
    third = np.abs(np.fft.rfft(saturate(sine, 60.0)))[[100, 300]]
    assert third[1] / third[0] == pytest.approx(1.0 / 3.0, rel=0.02)  # a square wave
    assert np.abs(saturate(sine, 12.0)).max() == pytest.approx(1.0)


def test_drawn_filters_lie_in_their_ranges_and_few_have_passes() -> None:
    rng = np.random.default_rng(3)
    drawn = [draw_filters(rng) for _ in range(1000)]
    assert all(80.0 <= one.resonance_hz <= 6000.0 and abs(one.tilt_db) <= 3.0 and abs(one.resonance_db) <= 9.0 for one in drawn)
    for passes, low, high in (([one.lowpass_hz for one in drawn], 2500.0, 7000.0), ([one.highpass_hz for one in drawn], 30.0, 120.0)):
        present = [hertz for hertz in passes if hertz is not None]
        assert 0.25 < len(present) / 1000 < 0.35
        assert low <= min(present) <= max(present) <= high


def test_a_recording_has_its_length_and_a_drawn_peak_and_depends_on_the_seed_alone() -> None:
    dry = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    first, again, other = (record(dry, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32
    assert first.shape == dry.shape
    peaks = [float(np.abs(record(dry, np.random.default_rng(seed))).max()) for seed in range(40)]
    assert 0.1 <= min(peaks) < 0.25 < 0.75 < max(peaks) <= 0.9


def test_a_recording_of_silence_is_noise_at_a_level() -> None:
    recorded = record(np.zeros(RATE), np.random.default_rng(6))
    assert np.isfinite(recorded).all()
    assert 0.1 <= np.abs(recorded).max() <= 0.9


def test_reverberation_follows_a_click_and_does_not_precede_it() -> None:
    dry = np.zeros(RATE)
    dry[4000] = 1.0
    ratios = []
    for seed in range(20):
        recorded = record(dry, np.random.default_rng(seed)).astype(np.float64)
        before, after = recorded[1000:3500], recorded[4500:7000]
        ratios.append(10 * np.log10(np.mean(after**2) / np.mean(before**2)))
    assert max(ratios) > 10.0
    assert min(ratios) > -3.0
