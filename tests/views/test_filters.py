"""Filters have the gain they state at the frequency they draw, and equal torchaudio's recursions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchaudio.functional as AF

from hear_ssl.views.filters import BUTTERWORTH, fast_length, filtered, high_pass, low_pass, peak, prototype_frequency
from tests.views.measure import RATE, SEEDS, TIME, changed, impulse, noise, power_db, share_db, sine

CENTRES = torch.tensor([[120.0], [1000.0], [5000.0]])


@pytest.mark.parametrize("rate", [16000, 48000])
def test_filters_equal_the_recursions_of_torchaudio(rate: int) -> None:
    x = noise(3)
    low = filtered(x, rate, lambda hertz: low_pass(prototype_frequency(hertz, CENTRES, rate)))
    high = filtered(x, rate, lambda hertz: high_pass(prototype_frequency(hertz, CENTRES, rate)))
    gain = torch.tensor([[-9.0], [3.0], [9.0]])
    equal = filtered(x, rate, lambda hertz: peak(prototype_frequency(hertz, CENTRES, rate), gain, 2.0))
    for row, centre in enumerate(CENTRES.squeeze(1).tolist()):
        double = x[row].double()
        torch.testing.assert_close(low[row], AF.lowpass_biquad(double, rate, centre, BUTTERWORTH).float(), rtol=0, atol=2e-6)
        torch.testing.assert_close(high[row], AF.highpass_biquad(double, rate, centre, BUTTERWORTH).float(), rtol=0, atol=2e-6)
        torch.testing.assert_close(equal[row], AF.equalizer_biquad(double, rate, centre, float(gain[row]), 2.0).float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("hertz", [100.0, 1000.0, 6000.0])
@pytest.mark.parametrize(("name", "stop"), [("low_pass", 1.0), ("high_pass", -1.0)])
def test_a_filter_is_3_db_down_at_its_frequency_and_12_db_per_octave_beyond(name: str, stop: float, hertz: float) -> None:
    def gain(octaves: float) -> float:
        tone, middle = sine(hertz * 2**octaves), slice(TIME // 4, -TIME // 4)
        return float(power_db(changed(name, tone, hz=(hertz,))[0, middle]) - power_db(tone[middle]))

    assert gain(0.0) == pytest.approx(-3.01, abs=0.05)
    if hertz == 1000.0:
        assert gain(-2 * stop) == pytest.approx(0.0, abs=0.1)
        assert gain(2 * stop) - gain(1 * stop) < -11.5


def test_a_filter_draws_another_frequency_for_each_clip_within_its_range() -> None:
    response = torch.fft.rfft(changed("low_pass", impulse(), hz=(500.0, 4000.0))).abs()
    ends = (response > 0.5**0.5).sum(1) * RATE / TIME  # the frequencies of -3 dB
    assert ends.unique().numel() == len(SEEDS)
    assert 499.0 <= ends.min() < 1400.0 < ends.max() <= 4001.0


def test_an_equaliser_has_its_gain_at_its_frequency_and_none_elsewhere() -> None:
    response = 20 * torch.log10(torch.fft.rfft(changed("equaliser", impulse(), bands=1, db=9.0, hz=(1000.0,), quality=4.0)).abs())
    at, far = response[:, 1000 * TIME // RATE], response[:, 100 * TIME // RATE]
    assert at.abs().max() <= 9.0 + 1e-3
    assert at.abs().max() > 4.0
    assert far.abs().max() < 0.05
    extreme = torch.where(at > 0, response.amax(1), response.amin(1))
    torch.testing.assert_close(extreme, at, rtol=0, atol=1e-2)


def test_an_equaliser_of_several_bands_multiplies_them_and_of_0_db_is_the_identity() -> None:
    torch.testing.assert_close(changed("equaliser", noise(), db=0.0), noise(), rtol=0, atol=1e-6)
    wide = 20 * torch.log10(torch.fft.rfft(changed("equaliser", impulse(), bands=4, db=6.0, hz=(1000.0,))).abs())
    assert wide.abs().max() <= 24.0 + 1e-3
    assert wide.abs().max() > 6.0


@pytest.mark.parametrize("end", [2000.0, 5512.5])
def test_a_low_rate_has_no_energy_above_half_of_it_and_all_of_it_below(end: float) -> None:
    made = changed("low_rate", noise(), hz=(end,))
    assert share_db(made, end + 5, RATE / 2).max() < -90.0
    tone = sine(0.88 * end)
    middle = slice(TIME // 8, -TIME // 8)
    torch.testing.assert_close(changed("low_rate", tone, hz=(end,))[0, middle], tone[middle], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_a_telephone_has_300_to_3400_hz_and_the_noise_of_8_bits(rate: int) -> None:
    made = changed("telephone", noise(2, 2 * rate), SEEDS[:2], rate)
    assert share_db(made, 4050, rate / 2, rate).max() < -55.0  # the stop band of the resampling back
    assert share_db(made, 0, 140, rate).max() < -30.0
    middle, tone = slice(rate // 4, -rate // 4), sine(1020.0, 2 * rate, rate)
    error = changed("telephone", tone, SEEDS[:1], rate)[0, middle] - tone[middle]
    assert power_db(tone[middle]) - power_db(error) == pytest.approx(38.0, abs=2.0)  # G.711 with a sine


@pytest.mark.parametrize("name", ["low_pass", "high_pass", "equaliser", "low_rate"])
def test_a_filter_does_not_wrap_from_the_end_of_a_clip_to_its_start(name: str) -> None:
    extreme: dict[str, Any] = {"hz": (20.0,)} if name in ("high_pass",) else {}
    made = changed(name, impulse(TIME - 1), **extreme)
    before = 20 if name != "low_rate" else RATE // 20  # a filter without phase rings before too
    assert made[:, : TIME - before].abs().max() < 1e-4


def test_lengths_are_fast_to_transform() -> None:
    for samples in (1, 7, 1000, 33919, 97000):
        rest = fast_length(samples)
        assert samples <= rest <= max(1.1 * samples, samples + 2)
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1
