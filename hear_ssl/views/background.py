"""Background noise at a signal-to-noise ratio: sounds from a folder, or other training clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torchaudio.functional as AF
from torch import Tensor

from hear_ssl.files import AUDIO_FOLDER
from hear_ssl.model.frontend import no_autocast
from hear_ssl.model.options import option
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.memory import Remembering
from hear_ssl.views.sometimes import CHANCE_HELP, Sometimes, check_ends, within
from hear_ssl.views.sound_folder import Sounds, read_folder

SNR_HELP = "lowest and highest signal-to-noise ratio"


def add_background(x: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Return waveforms with noise, both (batch, time), at energy ratios (batch, 1); unchanged where the noise is silent."""
    noisy: Tensor = AF.add_noise(x, noise, snr_db.squeeze(1))
    return torch.where(noise.any(-1, keepdim=True), noisy, x)


class Background(Sometimes):
    """A segment of a random sound of a folder as background noise."""

    @dataclass(frozen=True)
    class Options:
        """Options of the noise."""

        folder: str = option("", "audio files with noise; required", AUDIO_FOLDER)
        snr_db: tuple[float, ...] = option((5.0, 30.0), SNR_HELP, "dB", -60.0, 120.0)
        minutes: float = option(20.0, "length of the noise in memory, from files in a fixed, mixed order", "min", 0.01, 600.0)
        seconds: float = option(60.0, "length read from the start of each file", "s", 0.1, 3600.0)
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    def __init__(
        self,
        sample_rate: int,
        folder: str = Options.folder,
        snr_db: tuple[float, ...] = Options.snr_db,
        minutes: float = Options.minutes,
        seconds: float = Options.seconds,
        chance: float = Options.chance,
    ) -> None:
        super().__init__(chance)
        sounds, self.note = read_folder(folder, sample_rate, 60.0 * minutes, seconds)
        self.sounds, self.snr_db = Sounds(sounds, folder), snr_db

    def draw(self, random: SampleRandom, samples: int) -> tuple[Tensor, ...]:
        """Return the index of the sound, the relative start in it, and the ratio in dB, each (batch, 1)."""
        count = len(self.sounds.on(random.state.device)[1])
        return random.integers(count, 1), random.uniform(1), within(self.snr_db, random)

    def change(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Return waveforms with noise."""
        chosen, share, snr_db = drawn
        return add_background(x, self.sounds.segments(chosen, share, x.shape[-1]), snr_db)

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise ValueError when no folder is given or a range is invalid."""
        super().check(options, sample_rate)
        if not options.folder:
            raise ValueError("folder is empty; give a folder with audio files, or use other_clips for noise from the training's own clips")


class OtherClips(Remembering):
    """A clip of an earlier step, from any rank, as background noise.

    Checkpoints contain these clips. A view therefore depends on them as well as on its own clip.
    """

    @dataclass(frozen=True)
    class Options:
        """Options of the noise."""

        snr_db: tuple[float, ...] = option((5.0, 30.0), SNR_HELP, "dB", -60.0, 120.0)
        memory: int = option(256, "earlier clips in memory", "clips", 1, 65536)
        chance: float = option(0.5, CHANCE_HELP, "probability", 0.0, 1.0)

    kind = "waveform"

    def __init__(
        self,
        crop_samples: int,
        snr_db: tuple[float, ...] = Options.snr_db,
        memory: int = Options.memory,
        chance: float = Options.chance,
    ) -> None:
        super().__init__(memory, crop_samples, dtype=torch.float16)  # its rounding error is 66 dB below the noise
        self.snr_db, self.chance = snr_db, chance

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return waveforms of the same shape, unchanged while the memory is empty."""
        random = self.random(seeds)
        chosen, snr_db = random.uniform(1) < self.chance, within(self.snr_db, random)
        if not self.source.remembers:
            return x
        noise = self.source.memory[self.draw_place(random)].float()
        with no_autocast(x.device):
            return torch.where(chosen, add_background(x, noise, snr_db), x)

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise the ValueError of `check_ends`."""
        check_ends(options, sample_rate)
