"""Speed and pitch move a sine by exactly the ratio, and leave or scale time as they say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch

from hear_ssl.views import AUGMENTATIONS
from hear_ssl.views.resampled import Speed, fraction
from tests.views.measure import RATE, SEEDS, TIME, changed, impulse, noise, peak_hz, power_db, share_db, sine, views

RATIOS = ["1/2", "4/5", "8/9", "15/16", "16/15", "9/8", "5/4", "2/1"]


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", ["speed", "pitch_shift"])
def test_the_peak_of_a_sine_moves_by_exactly_the_ratio(name: str, ratio: str, rate: int) -> None:
    hertz, factor = 997.0, float(Fraction(ratio))
    made = changed(name, sine(hertz, 2 * rate, rate), SEEDS[:1], rate, ratios=(ratio,))[0]
    sounding = made[rate // 4 : min(2 * rate, round(2 * rate / max(1.0, factor))) - rate // 4]
    assert float(peak_hz(sounding, rate)) == pytest.approx(factor * hertz, rel=2e-4 if name == "pitch_shift" else 1e-5)
    assert float(share_db(sounding, factor * hertz - 30, factor * hertz + 30, rate)) > (-0.02 if name == "pitch_shift" else -1e-4)
    assert float(power_db(sounding)) == pytest.approx(float(power_db(sine(hertz))), abs=0.5 if name == "pitch_shift" else 0.02)


@pytest.mark.parametrize("ratio", RATIOS)
def test_at_another_speed_a_click_comes_at_its_time_divided_by_the_ratio(ratio: str) -> None:
    for place in (1800, 7200, 14400):
        made = changed("speed", impulse(place), SEEDS[:1], ratios=(ratio,))[0]
        assert abs(int(made.abs().argmax()) - place / Fraction(ratio)) <= 1


def test_a_faster_clip_ends_in_silence_and_keeps_what_is_above_the_band_out() -> None:
    made = changed("speed", noise(), ratios=("5/4",))
    assert made[:, TIME * 4 // 5 :].abs().max() == 0
    assert made[:, TIME * 4 // 5 - 100 : TIME * 4 // 5].abs().max() > 0.05
    aliased = changed("speed", sine(7000.0), SEEDS[:1], ratios=("5/4",))[0, : TIME * 4 // 5]  # 8750 Hz would alias to 7250 Hz
    assert power_db(aliased[1000:-1000]) < -50


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_pitch_shift_leaves_time_where_it_is(ratio: str) -> None:
    burst = torch.zeros(TIME)
    burst[20000:24000] = sine(880.0, 4000)
    made = changed("pitch_shift", burst, SEEDS[:1], ratios=(ratio,))[0].double().square()
    centre = float((made * torch.arange(TIME)).sum() / made.sum())
    assert centre == pytest.approx(22000, abs=0.02 * RATE)


@pytest.mark.parametrize("name", ["speed", "pitch_shift"])
def test_a_ratio_of_1_is_the_identity(name: str) -> None:
    torch.testing.assert_close(changed(name, noise(), ratios=("1/1",)), noise(), rtol=0, atol=1e-5)


def test_each_clip_draws_a_ratio_of_the_list() -> None:
    seeds = torch.arange(100)
    made = changed("speed", sine(800.0, 8000), seeds, ratios=("4/5", "1/1", "5/4"))
    drawn = (peak_hz(made[:, 1000:5000]) / 800.0).mul(20).round().div(20)
    assert sorted(set(drawn.tolist())) == pytest.approx([0.8, 1.0, 1.25], abs=1e-6)
    assert all((drawn - ratio).abs().lt(0.01).sum() > 20 for ratio in (0.8, 1.0, 1.25))


@pytest.mark.parametrize("samples", [400, 1023, 7680])
@pytest.mark.parametrize("name", ["speed", "pitch_shift"])
def test_clips_shorter_than_a_window_keep_their_length(name: str, samples: int) -> None:
    assert changed(name, noise(samples=samples)).shape == (len(SEEDS), samples)


@pytest.mark.parametrize("ratio", ["9", "9/0", "0/9", "-9/8", "25/24", "9/4", "3/8", "1.1/1", "a/b", "", "9/8/7"])
def test_a_wrong_ratio_gets_one_line(ratio: str) -> None:
    with pytest.raises(ValueError, match=r"^ratios has .*; give ratios of whole numbers up to 24, from 1/2 to 2/1, such as 9/8$"):
        fraction(ratio)


@pytest.mark.parametrize("options", [{"ratios": ()}, {"ratios": ("9/8", "9/0")}])
def test_wrong_options_are_refused_when_a_config_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^ratios (is empty|has '9/0')"):
        views("speed", **options)


def test_another_speed_moves_time_and_a_pitch_shift_does_not() -> None:
    assert Speed.moves_time(Speed.Options())
    assert not Speed.moves_time(Speed.Options(ratios=("1/1",)))
    assert not AUGMENTATIONS["pitch_shift"].moves_time(None)
