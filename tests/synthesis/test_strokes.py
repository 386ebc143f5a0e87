"""Every kind of stroke sounds, has the pitch and decay that it should, and depends on its generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from hear_ssl.synthesis.engines import SAMPLE_RATE as RATE
from hear_ssl.synthesis.strokes import KINDS, Kind, Kit, Stroke, gliding_modes, render, render_noise, render_tone
from tests.synthesis.measure import decay_rate, peak_frequency

EXACT = Kit(seed=0, tuning=1.0, ringing=1.0, electronic=1.0)


def steady(**spans: tuple[float, float]) -> Kind:
    """Return a kind whose spans are single values, with one mode that does not glide."""
    return Kind("one", **{"hertz": (400.0, 400.0), "decay": (0.3, 0.3), "glide": (0.0, 0.0), **spans})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_sounds_from_its_smallest_to_its_largest(kind: str) -> None:
    for position in (0.0, 1.0):
        stroke, rng = Stroke(kind, np.full(3, position), 1.0), np.random.default_rng(int(position))
        sound = render(stroke, Kit(seed=0, tuning=float(np.exp(0.2)), ringing=1.0, electronic=position), rng, RATE // 2)
        assert sound.shape == (RATE // 2,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0.1


@pytest.mark.parametrize("tuning", [1.0, 1.2])
def test_the_lowest_mode_has_its_frequency_times_the_tuning(tuning: float) -> None:
    stroke, rng = Stroke("x", np.full(3, 0.5), 1.0), np.random.default_rng(0)
    tone = render_tone(steady(), stroke, Kit(0, tuning, 1.0, 1.0), rng, RATE)
    assert peak_frequency(tone) == pytest.approx(400.0 * tuning, rel=2e-3)


@pytest.mark.parametrize("ringing", [0.7, 1.5])
def test_a_stroke_falls_by_60_db_in_its_decay_time(ringing: float) -> None:
    stroke, kit = Stroke("x", np.full(3, 0.5), 1.0), Kit(0, 1.0, ringing, 1.0)
    tone = render_tone(steady(), stroke, kit, np.random.default_rng(1), RATE)
    assert decay_rate(tone[RATE // 20 :]) == pytest.approx(60.0 / (0.3 * ringing), rel=0.1)
    kind = steady(noise_decay=(0.3, 0.3), band=(2000.0, 2000.0), rise=(0.001, 0.001))
    noise = render_noise(kind, stroke, kit, np.random.default_rng(2), RATE)
    assert decay_rate(noise[RATE // 20 :]) == pytest.approx(60.0 / (0.3 * ringing), rel=0.15)


def test_a_glide_starts_octaves_higher_and_ends_at_the_mode() -> None:
    time = np.arange(RATE) / RATE
    tone = gliding_modes(np.array([300.0]), np.array([1e3]), np.ones(1), octaves=1.0, seconds=0.05, time=time)
    crossings = np.flatnonzero(np.diff(np.signbit(tone)))
    assert RATE / 2 / np.diff(crossings[:3]).mean() == pytest.approx(600.0, rel=0.1)
    assert peak_frequency(tone[RATE // 2 :]) == pytest.approx(300.0, rel=1e-3)


def test_a_stroke_depends_on_its_generator_alone() -> None:
    stroke = Stroke("snare", np.full(3, 0.3), 1.0)
    first, again, other = (render(stroke, EXACT, np.random.default_rng(seed), 4000) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
