"""Rooms have the decay and the level that they draw; given impulse responses are convolved with exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.reverb import room
from tests.views.measure import RATE, SEEDS, TIME, changed, impulse, noise, part_of, power_db, sine, views, write


def rt60(response: Tensor) -> float:
    """Return the time in which a decay (time,) falls by 60 dB, from -5 to -35 dB of its backward integral (Schroeder, 1965)."""
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    level = 10 * torch.log10(energy / energy[0])
    first, last = int((level > -5).sum()), int((level > -35).sum())
    return 2 * (last - first) / RATE


@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.9])
def test_a_rendered_room_has_its_reverberation_time(seconds: float) -> None:
    responses = changed("reverb", impulse(), rt60_seconds=(seconds,), direct_db=(-20.0,))
    measured = torch.tensor([rt60(response[1:]) for response in responses])
    assert float(measured.mean()) == pytest.approx(seconds, rel=0.05)
    assert (measured / seconds - 1).abs().max() < 0.15
    assert not torch.equal(responses[0], responses[1])


def test_a_room_draws_its_reverberation_time_within_the_range() -> None:
    seeds = torch.arange(64)
    responses = changed("reverb", impulse(), seeds, rt60_seconds=(0.1, 0.8), direct_db=(-20.0,))
    measured = torch.tensor([rt60(response[1:]) for response in responses])
    assert 0.08 < measured.min() < 0.15
    assert 0.55 < measured.max() < 0.95


@pytest.mark.parametrize("direct_db", [-6.0, 0.0, 12.0])
def test_the_direct_sound_has_its_energy_over_the_decay_and_comes_at_once(direct_db: float) -> None:
    responses = changed("reverb", impulse(), direct_db=(direct_db,)).double()
    direct, decay = responses[:, 0].square(), responses[:, 1:].square().sum(1)
    torch.testing.assert_close(10 * torch.log10(direct / decay), torch.full((len(SEEDS),), direct_db).double(), rtol=0, atol=0.01)
    torch.testing.assert_close(direct + decay, torch.ones(len(SEEDS)).double(), rtol=0, atol=1e-4)


def test_reverberation_is_a_convolution_and_keeps_the_level_of_noise() -> None:
    made = changed("reverb", noise())
    responses = changed("reverb", impulse())
    full = torch.fft.irfft(torch.fft.rfft(noise().double(), 2 * TIME) * torch.fft.rfft(responses.double(), 2 * TIME), 2 * TIME)
    torch.testing.assert_close(made, full[:, :TIME].float(), rtol=0, atol=1e-5)
    assert (power_db(made) - power_db(noise())).abs().max() < 1.0


def test_a_given_unit_impulse_is_the_identity(tmp_path: Path) -> None:
    folder = write(tmp_path / "rooms", unit=impulse(37, 500), negative=-0.25 * impulse(0, 80))
    made = changed("reverb", noise(), folder=str(folder))
    sign = torch.sign((made * noise()).sum(1, keepdim=True))
    torch.testing.assert_close(made, sign * noise(), rtol=0, atol=1e-6)
    assert sign.unique().tolist() == [-1.0, 1.0]


def test_given_responses_are_used_from_their_direct_sound_on_in_short_and_long_clips(tmp_path: Path) -> None:
    response = 0.5 * impulse(100, 9000) + 0.25 * impulse(1100, 9000) + 0.25 * impulse(8600, 9000)
    folder = write(tmp_path / "rooms", hall=response)
    scale = (0.25 + 2 * 0.0625) ** -0.5
    long = changed("reverb", impulse(), folder=str(folder))
    short = changed("reverb", impulse(0, 4000), folder=str(folder))
    torch.testing.assert_close(long[0, [0, 1000, 8500]], scale * torch.tensor([0.5, 0.25, 0.25]), rtol=0, atol=1e-6)
    assert (long[0].abs() > 1e-5).sum() == 3
    torch.testing.assert_close(short, long[:, :4000], rtol=0, atol=1e-6)


def test_a_response_at_another_rate_is_resampled(tmp_path: Path) -> None:
    decay = torch.exp(-6.908 / 0.5 * torch.arange(48000) / 48000) * torch.randn(48000, generator=torch.Generator().manual_seed(0))
    decay[0] = 8.0
    made = changed("reverb", impulse(), folder=str(write(tmp_path / "rooms", 48000, hall=decay)))
    assert rt60(made[0]) == pytest.approx(0.5, rel=0.1)


def test_a_run_does_not_resume_with_other_responses(tmp_path: Path) -> None:
    one, other = (str(write(tmp_path / name, room=tail)) for name, tail in (("one", impulse(0, 90)), ("other", noise(1, 90)[0])))
    state = views("reverb", folder=one).state_dict()
    assert [tuple(value.shape) for value in state.values()] == [()]
    views("reverb", folder=one).load_state_dict(state)
    with pytest.raises(ValueError, match="other has other sounds than when the run started; restore them, or start a new run"):
        views("reverb", folder=other).load_state_dict(state)
    assert not views("reverb").state_dict()


def test_silence_stays_silence_and_a_room_of_a_few_samples_is_finite() -> None:
    assert changed("reverb", torch.zeros(TIME)).abs().max() == 0
    few = room(SampleRandom(SEEDS, 1).normal(2), torch.full((8, 1), 0.02), torch.full((8, 1), 60.0), RATE)
    assert few.isfinite().all()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rt60_seconds": (0.5, 0.1)}, r"^rt60_seconds is \[0.5, 0.1\]; give the lowest and the highest value"),
        ({"rt60_seconds": ()}, r"^rt60_seconds is \[\]; give the lowest"),
        ({"direct_db": (1.0, 2.0, 3.0)}, r"^direct_db is \[1.0, 2.0, 3.0\]; give the lowest"),
        ({"folder": "/no/such"}, r"^views.0.augment.0.reverb: folder /no/such does not exist; give a folder with audio files$"),
    ],
)
def test_wrong_options_get_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        views("reverb", **options)


def test_the_note_counts_what_was_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "rooms", a=sine(100.0, 8000), b=sine(200.0, 8000))
    note = part_of(views("reverb", folder=str(folder))).note
    assert note == f"views.0.augment.0.reverb: 1.0 s from 2 of 2 files in {folder}"
