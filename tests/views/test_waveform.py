"""Clipping and shifts in time do to single samples what they say."""

from __future__ import annotations

import math

import pytest
import torch

from hear_ssl.views import AUGMENTATIONS
from tests.views.measure import RATE, SEEDS, TIME, changed, impulse, noise, sine, spectrum


@pytest.mark.parametrize("db", [0.0, 3.0, 12.0])
def test_clipping_limits_a_sine_to_its_share_of_the_samples(db: float) -> None:
    tone = sine(100.3)
    made = changed("clipping", tone, db=(db,))[0]
    threshold = 0.5 * 10 ** (-db / 20)
    assert float(made.abs().max()) == pytest.approx(threshold, rel=1e-4)
    share = float((made != tone).float().mean())
    assert share == pytest.approx(1 - 2 / math.pi * math.asin(10 ** (-db / 20)), abs=0.01 if db else 0.001)
    assert torch.equal(made[made.abs() < threshold * 0.999], tone[made.abs() < threshold * 0.999])


@pytest.mark.parametrize("db", [3.0, 6.0, 12.0])
def test_clipping_has_the_harmonic_distortion_of_a_clipped_sine(db: float) -> None:
    made = changed("clipping", sine(100.0), db=(db,))[0]
    power = spectrum(made)
    hertz = torch.linspace(0, RATE / 2, len(power))
    fundamental = power[(hertz - 100).abs() < 10].sum()
    measured = float((power[hertz > 150].sum() / fundamental).sqrt())
    cut = math.asin(10 ** (-db / 20))  # Fourier series of sin t clipped at sin(cut), by its integrals over a quarter
    level, first = math.sin(cut), (2 * cut - math.sin(2 * cut) + 4 * math.sin(cut) * math.cos(cut)) / math.pi
    mean_square = (cut - math.sin(2 * cut) / 2 + (math.pi - 2 * cut) * level**2) / math.pi
    assert measured == pytest.approx(math.sqrt(2 * mean_square / first**2 - 1), rel=0.01)


def test_each_clip_is_clipped_below_its_own_peak() -> None:
    loud = noise() * torch.linspace(0.01, 1.0, len(SEEDS)).unsqueeze(1)
    below = 20 * torch.log10(loud.abs().amax(1) / changed("clipping", loud, db=(0.0, 15.0)).abs().amax(1))
    assert (below >= -1e-4).all()
    assert (below <= 15.0 + 1e-4).all()
    assert below.unique().numel() == len(SEEDS)
    assert changed("clipping", torch.zeros(TIME)).abs().max() == 0


def test_a_shift_moves_every_sample_by_the_same_whole_number() -> None:
    seeds = torch.arange(300)
    shift = changed("time_shift", impulse(9000), seeds, seconds=0.01).argmax(1) - 9000
    assert shift.min() >= -160
    assert shift.max() <= 160
    assert shift.unique().numel() > 150
    x = noise(300)
    made = changed("time_shift", x, seeds, seconds=0.01)
    for row, step in enumerate(shift.tolist()):
        expected = torch.roll(x[row], step)
        if step > 0:
            expected[:step] = 0
        elif step < 0:
            expected[step:] = 0
        assert torch.equal(made[row], expected)


def test_a_shift_longer_than_a_clip_leaves_silence_and_of_0_nothing_moves() -> None:
    far = changed("time_shift", noise(300, 100), torch.arange(300), seconds=1.0)
    assert (far.abs().amax(1) == 0).float().mean() > 0.9
    assert torch.equal(changed("time_shift", noise(), seconds=0.0), noise())
    options = AUGMENTATIONS["time_shift"].Options  # type: ignore[attr-defined]
    assert AUGMENTATIONS["time_shift"].moves_time(options(seconds=0.1))
    assert not AUGMENTATIONS["time_shift"].moves_time(options(seconds=0.0))
