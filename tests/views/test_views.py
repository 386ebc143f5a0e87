"""Every view does to sound what its name says, for each sample alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.options import ViewsConfig
from hear_ssl.views.spectrogram import drop, fade, mask, resize_crop, shift_pitch
from hear_ssl.views.views import Views

FRONTEND = FrontendConfig()
PITCH_FRONTEND = FrontendConfig(layout="log", n_fft=4096, n_mels=128, f_min=40.0, log_offset=1e-8, mean=-12.0)
NOTHING = ViewsConfig(gain_db=0, polarity=0, noise_std=0, mixup=0, time_masks=0, frequency_masks=0)
BATCH, TIME = 4, 16000
SEEDS = torch.arange(BATCH) * 7919 + 3
TOKENS = 64


def noise(batch: int = BATCH, crops: int = 1) -> Tensor:
    return torch.rand(batch, crops, TIME, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.25


def tone(frequency: float) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(TIME) / FRONTEND.sample_rate)


def views(config: ViewsConfig = NOTHING, frames: int = 104) -> Views:
    return Views(config, FRONTEND, frames)


def power(waveform: Tensor) -> Tensor:
    return 10 * torch.log10(waveform.square().mean(-1))


def test_without_augmentation_both_views_are_the_crop() -> None:
    crops = noise()
    made = views().waveform(crops, SEEDS)
    assert torch.equal(made[0], crops[:, 0])
    assert torch.equal(made[1], crops[:, 0])
    two = noise(crops=2)
    assert torch.equal(views().waveform(two, SEEDS)[1], two[:, 1])


def test_gain_changes_the_level_by_at_most_its_decibels_and_differs_between_samples() -> None:
    crops = noise()
    change = power(views(ViewsConfig(gain_db=6, polarity=0, noise_std=0)).waveform(crops, SEEDS)[0]) - power(crops[:, 0])
    assert change.abs().max() <= 6.0 + 1e-3
    assert change.unique().numel() == BATCH


def test_polarity_flips_the_sign_and_nothing_else() -> None:
    crops = noise()
    flipped = views(ViewsConfig(gain_db=0, polarity=1.0, noise_std=0)).waveform(crops, SEEDS)
    assert torch.equal(flipped[0], -crops[:, 0])


def test_noise_has_its_deviation_and_falls_on_the_second_view_alone() -> None:
    crops = noise()
    made = views(ViewsConfig(gain_db=0, polarity=0, noise_std=0.01)).waveform(crops, SEEDS)
    assert torch.equal(made[0], crops[:, 0])
    assert (made[1] - crops[:, 0]).std() == pytest.approx(0.01, rel=0.03)


def test_mixup_adds_power_of_an_earlier_input_and_never_more_than_its_share() -> None:
    frontend = LogMel(FRONTEND, time_stride=4)
    loud, quiet = frontend(tone(440.0)[None]), frontend(0.01 * tone(2000.0)[None])
    module = views(ViewsConfig(mixup=0.2, time_masks=0, frequency_masks=0), loud.shape[2])
    module.spectrogram(torch.stack([quiet, quiet]), SEEDS[:1])  # fills the memory
    mixed = module.spectrogram(torch.stack([loud, loud]), SEEDS[:1])[0]
    change = (mixed - loud) * FRONTEND.std  # ln power
    band = loud.mean(2).argmax()
    assert math.log(0.8) - 1e-4 <= change[0, band].mean() < 0
    partner = quiet.mean(2).argmax()
    assert change[0, partner].mean() > 0


def test_mixup_memory_is_first_in_first_out_and_without_augmentation() -> None:
    module = views(ViewsConfig(mixup=0.2, mixup_memory=6), frames=8)
    batches = [torch.full((2, 2, 64, 8), float(value)) for value in range(4)]
    for batch in batches:
        module.spectrogram(batch, SEEDS[:2])
    assert int(module.filled) == 6
    assert module.memory[:, 0, 0].tolist() == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]


def features() -> Tensor:
    return torch.randn(BATCH, 64, TOKENS, generator=torch.Generator().manual_seed(1)) + 3.0


@pytest.mark.parametrize("dim", [1, 2])
def test_masks_hide_stretches_no_longer_than_allowed(dim: int) -> None:
    for seed in range(20):
        hidden = (mask(features(), SampleRandom(SEEDS + seed, 1), 1, 8, dim) == 0).all(3 - dim)
        assert (hidden.sum(1) <= 8).all()
        edges = (hidden[:, 1:].int() - hidden[:, :-1].int()).abs().sum(1)
        assert (edges <= 2).all()  # one stretch


@pytest.mark.parametrize(("dim", "share"), [(1, 0.4), (2, 0.6)])
def test_dropping_hides_the_same_number_of_tokens_in_every_sample(dim: int, share: float) -> None:
    hidden = (drop(features(), SampleRandom(SEEDS, 1), share, dim) == 0).all(3 - dim)
    assert (hidden.sum(1) == round(share * 16) * 4).all()
    assert not torch.equal(hidden[0], hidden[1])


def test_a_fade_is_a_straight_line_in_level() -> None:
    change = fade(features(), SampleRandom(SEEDS, 1), 1.5) - features()
    assert change.abs().max() <= 1.5 + 1e-5
    assert torch.allclose(change[:, :, 2:] - change[:, :, 1:-1], change[:, :, 1:-1] - change[:, :, :-2], atol=1e-5)
    assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-5)


def test_resize_crop_off_is_the_identity_and_frequency_alone_leaves_time() -> None:
    clicks = torch.zeros(BATCH, 64, TOKENS)
    clicks[:, :, 20] = 1.0
    assert torch.equal(resize_crop(clicks, SampleRandom(SEEDS, 1), 0.0, 0.0), clicks)
    moved = resize_crop(clicks, SampleRandom(SEEDS, 1), 0.0, 0.3)
    assert (moved.sum(1).argmax(1) == 20).all()
    moved = resize_crop(clicks, SampleRandom(SEEDS, 1), 0.3, 0.0)
    assert (moved.sum(1).argmax(1) != 20).any()


@pytest.mark.parametrize("config", [FRONTEND, PITCH_FRONTEND], ids=["mel", "log"])
@pytest.mark.parametrize("semitones", [-5.0, -2.0, 0.0, 3.0, 6.0])
def test_a_shifted_tone_lies_where_a_tone_of_that_pitch_lies(semitones: float, config: FrontendConfig) -> None:
    frontend = LogMel(config, time_stride=4)
    shifted = shift_pitch(frontend(tone(1000.0)[None]), torch.tensor([semitones]), config)
    real = frontend(tone(1000.0 * 2 ** (semitones / 12))[None])
    assert abs(int(shifted.mean(2).argmax()) - int(real.mean(2).argmax())) <= 1
    if semitones == 0.0:
        assert torch.allclose(shifted, frontend(tone(1000.0)[None]), atol=1e-4)


def test_a_view_depends_on_its_own_seed_and_nothing_else_in_the_batch() -> None:
    config = ViewsConfig(mixup=0, crop_time=0.3, crop_frequency=0.3, fader=1.0, drop_time=0.2, drop_frequency=0.2)
    crops, frontend = noise(crops=2), LogMel(FRONTEND, time_stride=4)

    def made(rows: slice) -> Tensor:
        module = views(config)
        waveforms = module.waveform(crops[rows], SEEDS[rows])
        plain = frontend(waveforms.flatten(0, 1))
        return module.spectrogram(plain.reshape(2, -1, *plain.shape[1:]), SEEDS[rows])

    whole = made(slice(None))
    for row in range(BATCH):
        torch.testing.assert_close(made(slice(row, row + 1))[:, 0], whole[:, row], rtol=1e-5, atol=1e-5)


def test_sample_random_is_uniform_normal_and_independent_between_streams() -> None:
    seeds = torch.arange(2000)
    uniform = SampleRandom(seeds, 1).uniform(50)
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.var() == pytest.approx(1 / 12, rel=0.02)
    normal = SampleRandom(seeds, 1).normal(51)
    assert normal.mean() == pytest.approx(0.0, abs=0.01)
    assert normal.std() == pytest.approx(1.0, rel=0.01)
    other = SampleRandom(seeds, 2).uniform(50)
    assert torch.corrcoef(torch.stack([uniform.flatten(), other.flatten()]))[0, 1].abs() < 0.01
    whole = SampleRandom(seeds, 1)
    assert torch.equal(torch.cat([whole.uniform(20), whole.uniform(30)], 1), uniform)
    drawn = SampleRandom(seeds, 3).integers(7, 10)
    assert drawn.unique().tolist() == list(range(7))
