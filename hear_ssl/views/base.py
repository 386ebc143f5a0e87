"""The interface of every augmentation, and what a view is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from hear_ssl.model.options import Part
from hear_ssl.sample_random import SampleRandom

KINDS = ("waveform", "spectrogram", "mask")  # in the order in which they are applied


@dataclass(frozen=True)
class ViewConfig:
    """A view: the number of its crop, and the augmentations of it in their order."""

    crop: int
    augment: tuple[Part, ...]


class Augmentation(nn.Module):
    """A change of every sample of a batch by random numbers of its own.

    An augmentation is a subclass with a frozen dataclass `Options` nested in it, whose fields `__init__` accepts as keywords, with
    sample_rate (Hz), frontend (a FrontendConfig), crop_samples and crop_frames (of its features) if it names them.

    kind: what it changes. waveform: (batch, time). spectrogram: normalised log-mel features (batch, n_mels, frames). mask: the time
    steps that the encoder encodes (batch, steps), of which it returns some.
    offset: how many random numbers of a sample come before its own at least; with a fixed place they do not depend on the
    augmentations before it.
    note: what a run prints about it at its start, such as how many files it has read.
    """

    kind: ClassVar[str] = "spectrogram"
    offset: ClassVar[int] = 0
    drawn: SampleRandom | None = None
    note: str = ""

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return the changed batch, of the same shape; seeds (batch,) int64 are of this augmentation in this view."""
        raise NotImplementedError

    def random(self, seeds: Tensor) -> SampleRandom:
        """Return the generator of a call's random numbers."""
        self.drawn = SampleRandom.at(seeds)
        return self.drawn

    def remember(self, inputs: Tensor) -> None:
        """Keep what a step's waveforms or features were before any augmentation, of the shape that `forward` gets; nothing by default."""

    @classmethod
    def check(cls, options: Any, sample_rate: int) -> None:
        """Raise ValueError, which begins with the name of an option, when options contradict one another or the sample rate (Hz)."""

    @staticmethod
    def moves_time(options: Any) -> bool:
        """Return whether, with these options, a token of the result stands for another time than before."""
        return False
