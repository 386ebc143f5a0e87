"""Augmentations of waveforms that change a random part of the clips, and options that are a range."""

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
    """An augmentation of the waveforms of randomly chosen clips: a subclass draws numbers for all clips and changes the chosen ones."""

    kind = "waveform"

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the random parameters for clips of `samples` samples, each (batch, ...); always draw the same number of random numbers."""
        raise NotImplementedError

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return waveforms (batch, time), changed by the drawn parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape; clips that are not chosen are unchanged."""
        random = self.random(seeds)
        chosen = random.uniform(1) < self.chance  # (batch, 1)
        drawn = self.draw(random, x.shape[-1])
        with no_autocast(x.device):
            if not chooses_rows(x.device):
                return torch.where(chosen, self.change(x, *drawn), x)
            rows = chosen.squeeze(1).nonzero().squeeze(1)
            if not len(rows):
                return x
            batch = rows.expand(max(2, len(rows)))  # MKL's Fourier transform rounds a single row differently from several rows
            return x.index_copy(0, rows, self.change(x[batch], *(one[batch] for one in drawn))[: len(rows)])

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise the ValueError of `check_ends`."""
        check_ends(options, sample_rate)


def chooses_rows(device: torch.device) -> bool:
    """Return whether only the chosen clips are computed, on a CPU; on a GPU the host would have to wait for the choice."""
    return device.type == "cpu"


def check_ends(options: Any, sample_rate: int) -> None:
    """Raise ValueError when a range is descending or has more than two ends, or a range in Hz exceeds half the sample rate (Hz)."""
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
    """Return a value for each clip (batch, 1), log-uniform between two ends above 0."""
    return torch.exp(random.uniform(1, low=math.log(ends[0]), high=math.log(ends[-1])))
