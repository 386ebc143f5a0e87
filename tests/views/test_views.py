"""Every view does to sound what its name says, for each sample alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig, Part, options_of
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views import AUGMENTATIONS, Augmentation, ViewConfig
from hear_ssl.views.masks import drop, mask
from hear_ssl.views.spectrogram import fade, resize_crop, shift_pitch
from hear_ssl.views.views import Views

FRONTEND = FrontendConfig()
PITCH_FRONTEND = FrontendConfig(layout="log", n_fft=4096, n_mels=128, f_min=40.0, log_offset=1e-8, mean=-12.0)
BATCH, TIME = 4, 16000
SEEDS = torch.arange(BATCH) * 7919 + 3
TOKENS = 64


def noise(batch: int = BATCH) -> Tensor:
    return torch.rand(batch, TIME, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.25


def tone(frequency: float) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(TIME) / FRONTEND.sample_rate)


def augment(name: str, **options: Any) -> Part:
    kind = AUGMENTATIONS[name]
    return Part(name, kind, options_of(kind)(**options))


def views(*augmentations: list[Part], crops: tuple[int, ...] = (0, 0), frames: int = 104) -> Views:
    configs = [ViewConfig(crop, tuple(parts)) for crop, parts in zip(crops, augmentations or ([], []), strict=True)]
    return Views(configs, FRONTEND, [TIME, TIME], [frames, frames])


def power(waveform: Tensor) -> Tensor:
    return 10 * torch.log10(waveform.square().mean(-1))


def test_without_augmentation_a_view_is_its_crop() -> None:
    first, second = noise(), noise() * 0.5
    made = views([], [], crops=(1, 0)).waveforms([first, second], SEEDS)
    assert torch.equal(made[0], second)
    assert torch.equal(made[1], first)


def test_gain_changes_the_level_by_at_most_its_decibels_and_differs_between_samples() -> None:
    crop = noise()
    change = power(views([augment("gain", db=6.0)], []).waveforms([crop], SEEDS)[0]) - power(crop)
    assert change.abs().max() <= 6.0 + 1e-3
    assert change.unique().numel() == BATCH


def test_polarity_flips_the_sign_and_nothing_else() -> None:
    crop = noise()
    assert torch.equal(views([augment("polarity", chance=1.0)], []).waveforms([crop], SEEDS)[0], -crop)


def test_noise_has_its_deviation_in_the_view_that_names_it() -> None:
    crop = noise()
    made = views([], [augment("noise", std=0.01)]).waveforms([crop], SEEDS)
    assert torch.equal(made[0], crop)
    assert (made[1] - crop).std() == pytest.approx(0.01, rel=0.03)


def test_augmentations_apply_in_the_order_of_the_list() -> None:
    crop = noise()
    loud, noisy = augment("gain", db=20.0), augment("noise", std=0.1)
    first, last = views([loud, noisy], [noisy, loud]).waveforms([crop], SEEDS)
    gain = views([loud], []).waveforms([crop], SEEDS)[0] / crop
    torch.testing.assert_close((first - gain * crop).std(), torch.tensor(0.1), rtol=0.03, atol=0.0)
    assert (last.std() - first.std()).abs() > 0.01  # here the noise is amplified too


def test_the_same_noise_is_drawn_with_and_without_what_comes_before_it() -> None:
    crop = noise()
    alone = views([augment("noise", std=0.01)], []).waveforms([crop], SEEDS)[0] - crop
    behind = (
        views([augment("gain", db=0.0), augment("polarity", chance=0.0), augment("noise", std=0.01)], []).waveforms([crop], SEEDS)[0] - crop
    )
    torch.testing.assert_close(alone, behind, rtol=0, atol=1e-7)


class Drawn(Augmentation):
    """Puts one random number into every sample, drawn in its own way."""

    kind = "waveform"

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        return torch.cat([x[:, 1:], SampleRandom(seeds, 9).uniform(1)], 1)


def test_each_augmentation_and_each_view_has_random_numbers_of_its_own() -> None:
    own = Part("own.py:Drawn", Drawn, options_of(Drawn)())
    first, second = views([own, own], [own, own]).waveforms([torch.zeros(BATCH, 2)], SEEDS)
    numbers = torch.cat([first, second], 1)  # (batch, 4)
    assert numbers.unique().numel() == numbers.numel()


def test_mixup_adds_power_of_an_earlier_input_and_never_more_than_its_share() -> None:
    frontend = LogMel(FRONTEND, time_stride=4)
    loud, quiet = frontend(tone(440.0)[None]), frontend(0.01 * tone(2000.0)[None])
    module = views([augment("mixup", share=0.2)], [augment("mixup", share=0.2)], frames=loud.shape[2])
    module.spectrograms([quiet, quiet], SEEDS[:1])  # fills the memory
    for mixed in module.spectrograms([loud, loud], SEEDS[:1]):
        change = (mixed - loud) * FRONTEND.std  # ln power
        band = loud.mean(2).argmax()
        assert math.log(0.8) - 1e-4 <= change[0, band].mean() < 0
        partner = quiet.mean(2).argmax()
        assert change[0, partner].mean() > 0


def test_mixup_memory_is_first_in_first_out_without_augmentation_and_kept_once() -> None:
    module = views([augment("mixup", memory=6)], [augment("mixup", memory=6)], frames=8)
    for value in range(4):
        module.spectrograms([torch.full((2, 64, 8), float(value))] * 2, SEEDS[:2])
    state = module.state_dict()
    assert sorted(state) == ["views.0.0.filled", "views.0.0.memory"]
    assert int(state["views.0.0.filled"]) == 6
    assert state["views.0.0.memory"][:, 0, 0].tolist() == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    resumed = views([augment("mixup", memory=6)], [augment("mixup", memory=6)], frames=8)
    resumed.load_state_dict(state)
    batch = [torch.randn(2, 64, 8)] * 2
    for one, other in zip(module.spectrograms(batch, SEEDS[:2]), resumed.spectrograms(batch, SEEDS[:2]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_keep_draws_its_share_of_the_time_steps_in_order_for_each_view_and_sample(share: float) -> None:
    first, second = views([augment("keep", share=share)], [augment("keep", share=share)]).kept(SEEDS, [40, 40])
    if share == 1.0:
        assert first is second is None
        return
    assert first is not None
    assert second is not None
    assert first.shape == (BATCH, round(share * 40))
    assert (first.diff(dim=1) > 0).all()
    assert int(first.max()) < 40
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


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
    names = ("gain", "polarity", "noise", "resize_crop", "fader", "time_masks", "frequency_masks", "drop_time", "drop_frequency")
    parts = [augment(name) for name in names]
    crop, frontend = noise(), LogMel(FRONTEND, time_stride=4)

    def made(rows: slice) -> Tensor:
        module = views(parts, parts)
        waveforms = module.waveforms([crop[rows]], SEEDS[rows])
        return torch.stack(module.spectrograms([frontend(waveform) for waveform in waveforms], SEEDS[rows]))

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
