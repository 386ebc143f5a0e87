"""Views: crops with their augmentations, batched on the device.

All random numbers are derived from the sample's seed, the view and the augmentation, so a view does not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hear_ssl.model.options import FrontendConfig, Part
from hear_ssl.model.parts import build
from hear_ssl.sample_random import SampleRandom, advanced
from hear_ssl.views.base import Augmentation, ViewConfig
from hear_ssl.views.memory import Remembering
from hear_ssl.views.spectrogram import shift_pitch

STREAMS = {"waveform": 1, "spectrogram": 2, "pitch": 3, "mask": 4}
STREAMS_OF_A_VIEW = 16


class Views(nn.Module):
    """The views of each clip: augmented waveforms of its crops, then augmented features."""

    def __init__(self, views: Sequence[ViewConfig], frontend: FrontendConfig, samples: Sequence[int], frames: Sequence[int]) -> None:
        """Build for crops with these numbers of `samples`, and of `frames` in their features.

        Raises ValueError that names an augmentation which cannot read its files.
        """
        super().__init__()
        self.frontend = frontend
        self.crops = [view.crop for view in views]
        self.views = nn.ModuleList(
            nn.ModuleList(
                built(part, f"views.{number}.augment.{place}", frontend, samples[view.crop], frames[view.crop])
                for place, part in enumerate(view.augment)
            )
            for number, view in enumerate(views)
        )
        memories: list[Remembering] = []
        for part in self.modules():
            if isinstance(part, Remembering) and not any(part.share_memory_of(other) for other in memories):
                memories.append(part)

    def waveforms(self, crops: Sequence[Tensor], seeds: Tensor) -> list[Tensor]:
        """Return the waveform of every view (batch, time) from the crops, each (batch, time)."""
        return self._changed("waveform", [crops[crop] for crop in self.crops], seeds)

    def spectrograms(self, features: Sequence[Tensor], seeds: Tensor) -> list[Tensor]:
        """Return augmented features of every view, each of the same shape (batch, n_mels, frames)."""
        return self._changed("spectrogram", [view.float() for view in features], seeds)

    def notes(self) -> list[str]:
        """Return the notes of all augmentations."""
        return [part.note for part in self.modules() if isinstance(part, Augmentation) and part.note]

    def kept(self, seeds: Tensor, steps: Sequence[int]) -> list[Tensor | None]:
        """Return for every view the sorted time steps to encode (batch, k), or None for all; `steps`: number of time steps per view."""
        kept: list[Tensor | None] = []
        for view, count in enumerate(steps):
            every = torch.arange(count, device=seeds.device).expand(len(seeds), -1)
            some = self._augment(view, "mask", every, seeds)
            kept.append(None if some.shape[1] == count else some)
        return kept

    def pitch_shifted(self, features: Tensor, seeds: Tensor, semitones: float) -> tuple[Tensor, Tensor]:
        """Return features (batch, n_mels, frames) shifted in pitch, and the shifts in semitones (batch,), uniform in ±semitones."""
        shift = SampleRandom(seeds, STREAMS["pitch"]).uniform(1, low=-semitones, high=semitones).squeeze(1)
        return shift_pitch(features, shift, self.frontend), shift

    def _of(self, view: int, kind: str) -> list[Augmentation]:
        augmentations = self.views[view]
        assert isinstance(augmentations, nn.ModuleList)
        return [one for one in augmentations if isinstance(one, Augmentation) and one.kind == kind]

    def _changed(self, kind: str, plain: Sequence[Tensor], seeds: Tensor) -> list[Tensor]:
        """Return each view after its augmentations of a kind; then give them the original views for their memories."""
        changed = [self._augment(view, kind, original, seeds) for view, original in enumerate(plain)]
        for view, original in enumerate(plain):
            for augmentation in self._of(view, kind):
                augmentation.remember(original)
        return changed

    def _augment(self, view: int, kind: str, batch: Tensor, seeds: Tensor) -> Tensor:
        """Return a batch after the view's augmentations of a kind; they draw their random numbers one after another."""
        own, drawn = SampleRandom(seeds, STREAMS[kind] + STREAMS_OF_A_VIEW * view).state, 0
        for augmentation in self._of(view, kind):
            drawn = max(drawn, augmentation.offset)
            augmentation.drawn = None
            batch = augmentation(batch, advanced(own, drawn))
            drawn += augmentation.drawn.draws if augmentation.drawn else 1  # an augmentation with its own generator gets separate seeds
        return batch


def built(part: Part, where: str, frontend: FrontendConfig, samples: int, frames: int) -> Augmentation:
    """Return the augmentation of a part for crops with these samples and frames. Raises ValueError that names `where`."""
    try:
        augmentation: Augmentation = build(
            part, sample_rate=frontend.sample_rate, frontend=frontend, crop_samples=samples, crop_frames=frames
        )
    except ValueError as error:
        raise ValueError(f"{where}.{part.name}: {error}") from None
    augmentation.note = augmentation.note and f"{where}.{part.name}: {augmentation.note}"
    return augmentation
