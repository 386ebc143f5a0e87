"""The interface of every augmentation, and the config of a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from hear_ssl.model.options import Part
from hear_ssl.sample_random import SampleRandom

KINDS = ("waveform", "spectrogram", "mask")  # in the order in which they are applied


@dataclass(frozen=True)
class ViewConfig:
    """A view: the number of its crop, and its augmentations in order."""

    crop: int
    augment: tuple[Part, ...]


class Augmentation(nn.Module):
    """A random change of every sample of a batch, with separate random numbers per sample.

    An augmentation is a subclass with a nested frozen dataclass `Options`, whose fields `__init__` accepts as keywords; `__init__` also
    receives sample_rate (Hz), frontend (a FrontendConfig), crop_samples and crop_frames (of the features) if its signature names them.

    kind: what it changes. waveform: (batch, time). spectrogram: normalised log-mel features (batch, n_mels, frames). mask: the time
    steps to encode (batch, steps), of which it returns a part.
    offset: position of its random numbers in the sequence of a sample, at least; a fixed position makes them independent of the
    augmentations before it.
    note: a line that a run prints at its start, such as the number of files read.
    """

    kind: ClassVar[str] = "spectrogram"
    offset: ClassVar[int] = 0
    drawn: SampleRandom | None = None
    note: str = ""

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return the changed batch, of the same shape; seeds (batch,) int64 are those of this augmentation in this view."""
        raise NotImplementedError

    def random(self, seeds: Tensor) -> SampleRandom:
        """Return the random generator for a call."""
        self.drawn = SampleRandom.at(seeds)
        return self.drawn

    def remember(self, inputs: Tensor) -> None:
        """Store a step's waveforms or features before any augmentation, in the shape that `forward` gets; do nothing by default."""

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise ValueError, beginning with the name of an option, when options contradict each other or the sample rate (Hz)."""

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return whether, with these options, a token of the result covers other time frames than before."""
        return False
