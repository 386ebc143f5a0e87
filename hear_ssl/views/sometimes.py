"""Augmentations of waveforms that change some of the clips, and options that are a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from hear_ssl.model.frontend import no_autocast
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.base import Augmentation

CHANCE_HELP = "chance that a clip is changed"


class Sometimes(Augmentation):
    """A change of the waveforms of some clips: a subclass draws its numbers for all clips, and changes those that are chosen."""

    kind = "waveform"

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return what a change of clips of so many samples depends on, each (batch, ...); always with as many random numbers."""
        raise NotImplementedError

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return changed waveforms (batch, time) by what was drawn for each."""
        raise NotImplementedError

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape; those that are not chosen keep their samples."""
        random = self.random(seeds)
        chosen = random.uniform(1) < self.chance  # (batch, 1)
        drawn = self.draw(random, x.shape[-1])
        with no_autocast(x.device):
            if not chooses_rows(x.device):
                return torch.where(chosen, self.change(x, *drawn), x)
            rows = chosen.squeeze(1).nonzero().squeeze(1)
            if not len(rows):
                return x
            batch = rows.expand(max(2, len(rows)))  # MKL's Fourier transform rounds one row otherwise than each of several
            return x.index_copy(0, rows, self.change(x[batch], *(one[batch] for one in drawn))[: len(rows)])

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise what `check_ends` raises."""
        check_ends(options, sample_rate)


def chooses_rows(device: torch.device) -> bool:
    """Return whether only the chosen clips are computed: elsewhere than on a CPU the host would wait to learn which they are."""
    return device.type == "cpu"


def check_ends(options: Any, sample_rate: int) -> None:
    """Raise ValueError when an option that is a range falls or has more than two ends, or one in Hz exceeds half the sample rate (Hz)."""
    for item in fields(options):
        value = getattr(options, item.name)
        if not isinstance(item.default, tuple) or not isinstance(item.default[0], float):
            continue
        if len(value) not in (1, 2) or value[0] > value[-1]:
            raise ValueError(f"{item.name} is {list(value)}; give the lowest and the highest value, such as [1, 2], or one for both")
        if item.metadata["unit"] == "Hz" and value[-1] > sample_rate / 2:
            raise ValueError(f"{item.name} is {list(value)}; at {sample_rate} Hz it can be {sample_rate / 2:g} at most")


def within(ends: Sequence[float], random: SampleRandom) -> Tensor:
    """Return a value for each clip (batch, 1), uniform between two ends."""
    return random.uniform(1, low=ends[0], high=ends[-1])


def within_octaves(ends: Sequence[float], random: SampleRandom) -> Tensor:
    """Return a value for each clip (batch, 1) whose logarithm is uniform between those of two ends, both above 0."""
    return torch.exp(random.uniform(1, low=math.log(ends[0]), high=math.log(ends[-1])))
