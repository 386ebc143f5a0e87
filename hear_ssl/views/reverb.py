"""Reverberation: convolution with the rendered or recorded impulse response of a room.

A rendered room is a direct sound followed by Gaussian noise with exponential decay (Polack, "La transmission de l'énergie sonore dans les
salles", 1988), without early reflections and without the faster decay of high frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from hear_ssl.files import AUDIO_FOLDER
from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.filters import fast_length
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes, within, within_octaves
from hear_ssl.views.sound_folder import Sounds, read_folder

LN_60_DB = math.log(1000.0)  # 60 dB as a ratio of amplitudes
LONGEST_SECONDS = 10.0  # of a recorded impulse response
MOST_SECONDS = 3600.0  # of all of them


class Reverb(Sometimes):
    """Reverberation by rendered rooms with random decay, or by impulse responses from a folder; the direct sound is not delayed.

    Impulse responses have energy 1, so that the level of a clip changes little.
    """

    @dataclass(frozen=True)
    class Options:
        """Options of the rooms."""

        folder: str = option("", "audio files with one impulse response each; empty: rooms are rendered", AUDIO_FOLDER)
        rt60_seconds: tuple[float, ...] = option((0.1, 0.8), "rendered: shortest and longest decay time (60 dB)", "s", 0.02, 10.0)
        direct_db: tuple[float, ...] = option(
            (-3.0, 15.0), "rendered: lowest and highest energy ratio of direct sound and decay", "dB", -40.0, 60.0
        )
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(
        self,
        sample_rate: int,
        folder: str = Options.folder,
        rt60_seconds: tuple[float, ...] = Options.rt60_seconds,
        direct_db: tuple[float, ...] = Options.direct_db,
        chance: float = Options.chance,
    ) -> None:
        super().__init__(chance)
        self.sample_rate, self.rt60_seconds, self.direct_db = sample_rate, rt60_seconds, direct_db
        self.responses = None
        if folder:
            sounds, self.note = read_folder(folder, sample_rate, MOST_SECONDS, LONGEST_SECONDS)
            self.responses = Sounds([from_direct_sound(sound) for sound in sounds], folder)

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the index of an impulse response of the folder (batch, 1), or rendered impulse responses (batch, time)."""
        if self.responses is not None:
            return (random.integers(len(self.responses.on(random.state.device)[1]), 1),)
        noise = random.normal(min(samples, math.ceil(self.rt60_seconds[-1] * self.sample_rate)))
        return (room(noise, within_octaves(self.rt60_seconds, random), within(self.direct_db, random), self.sample_rate),)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return reverberant waveforms of the same length."""
        (response,), samples = drawn, x.shape[-1]
        if self.responses is not None:
            response = self.responses.beginnings(response, min(samples, self.responses.longest))
        silence = fast_length(samples + response.shape[-1] - 1) - (samples + response.shape[-1] - 1)
        convolved: Tensor = AF.fftconvolve(x, F.pad(response, (0, silence)))
        return convolved[..., :samples]


def room(noise: Tensor, rt60_seconds: Tensor, direct_db: Tensor, sample_rate: int) -> Tensor:
    """Return impulse responses (batch, time) with energy 1 from white noise (batch, time), decay times and levels (batch, 1)."""
    time = torch.arange(noise.shape[-1], device=noise.device) / sample_rate
    decay = noise * torch.exp(-LN_60_DB / rt60_seconds * time)
    decay = F.pad(decay[..., :-1], (1, 0))  # the direct sound comes first
    decay = decay * 10.0 ** (-direct_db / 20.0) / torch.linalg.vector_norm(decay, dim=-1, keepdim=True)
    decay[..., 0] = 1.0
    return normalised(decay)


def from_direct_sound(response: Tensor) -> Tensor:
    """Return an impulse response (samples,) from its largest sample on, with energy 1."""
    response = response[int(response.abs().argmax()) :]
    return normalised(response)


def normalised(response: Tensor) -> Tensor:
    """Return impulse responses (..., time) with energy 1."""
    scaled: Tensor = response / torch.linalg.vector_norm(response, dim=-1, keepdim=True)
    return scaled
