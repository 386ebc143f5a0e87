"""Views: augmentations of waveforms and log-mel features, batched on the device.

Every random number comes from the sample's own seed (`SampleRandom`), so a view depends on nothing else in the batch.
Log-mixup-exp, random resize crop and random linear fader after Niizumi et al., BYOL for Audio (2023), section III;
masks after Park et al., SpecAugment (2019); structured dropping after AudioMosaic (2026). Operations on the spectrogram
itself are in `spectrogram.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hear_ssl.distributed.gather import gather_constant
from hear_ssl.model.options import FrontendConfig
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.options import ViewsConfig
from hear_ssl.views.spectrogram import drop, fade, mask, resize_crop, shift_pitch

WAVEFORM_STREAM, SPECTROGRAM_STREAM, PITCH_STREAM, KEEP_STREAM = 1, 2, 3, 4


class Views(nn.Module):
    """Makes two views of each clip, first of the waveform, then of the features."""

    memory: Tensor
    filled: Tensor

    def __init__(self, config: ViewsConfig, frontend: FrontendConfig, frames: int) -> None:
        """Build for features (n_mels, frames); mixup remembers `mixup_memory` of them across steps and checkpoints."""
        super().__init__()
        self.config, self.frontend = config, frontend
        size = config.mixup_memory if config.mixup > 0 else 0
        self.register_buffer("memory", torch.zeros(size, frontend.n_mels, frames))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.remembers = False  # whether `filled` is above 0, known without asking the device at every step

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.remembers = bool(self.filled)

    def waveform(self, crops: Tensor, seeds: Tensor) -> Tensor:
        """Return two views (2, batch, time) of crops (batch, crops, time); from one crop both are made of it."""
        config, views = self.config, []
        for view in range(2):
            waveform = crops[:, min(view, crops.shape[1] - 1)]
            random = SampleRandom(seeds, WAVEFORM_STREAM + 16 * view)
            gain_db = random.uniform(1, low=-config.gain_db, high=config.gain_db)
            sign = torch.where(random.uniform(1) < config.polarity, -1.0, 1.0)
            waveform = waveform * sign * 10.0 ** (gain_db / 20.0)
            if view == 1 and config.noise_std > 0:
                waveform = waveform + config.noise_std * random.normal(waveform.shape[-1])
            views.append(waveform)
        return torch.stack(views)

    def spectrogram(self, features: Tensor, seeds: Tensor) -> Tensor:
        """Return augmented features of the same shape (2, batch, n_mels, frames)."""
        views = []
        config = self.config
        for view, original in enumerate(features.float()):
            random = SampleRandom(seeds, SPECTROGRAM_STREAM + 16 * view)
            changed = self.mixup(original, random)
            changed = resize_crop(changed, random, config.crop_time, config.crop_frequency)
            changed = fade(changed, random, config.fader / self.frontend.std)
            changed = mask(changed, random, config.time_masks, config.time_mask_frames, dim=2)
            changed = mask(changed, random, config.frequency_masks, config.frequency_mask_bands, dim=1)
            changed = drop(changed, random, config.drop_time if view == 0 else 0.0, dim=2)
            views.append(drop(changed, random, config.drop_frequency if view == 1 else 0.0, dim=1))
        if self.config.mixup > 0:
            self.remember(features[0].float())
        return torch.stack(views)

    def mixup(self, features: Tensor, random: SampleRandom) -> Tensor:
        """Mix a share of a remembered input's mel power into each sample; without memory return the features as they are."""
        if not self.remembers:
            return features
        share = random.uniform(1, 1, high=self.config.mixup)  # (batch, 1, 1)
        partner = self.memory[random.integers(self.filled)]
        log_power, partner_log_power = self.log_power(features), self.log_power(partner)
        mixed = torch.logaddexp(torch.log1p(-share) + log_power, torch.log(share + 1e-12) + partner_log_power)
        return (mixed - self.frontend.mean) / self.frontend.std

    def log_power(self, features: Tensor) -> Tensor:
        """Undo the normalisation: ln of mel power."""
        return features * self.frontend.std + self.frontend.mean

    def kept(self, seeds: Tensor, steps: int) -> Tensor | None:
        """Return the time steps of each view to encode (2, batch, k), sorted; None when all `steps` of them are."""
        count = max(1, round(self.config.keep * steps))
        if count == steps:
            return None
        draws = [SampleRandom(seeds, KEEP_STREAM + 16 * view).uniform(steps) for view in range(2)]
        return torch.stack([draw.argsort(1)[:, :count].sort(1).values for draw in draws])

    def pitch_shifted(self, features: Tensor, seeds: Tensor, semitones: float) -> tuple[Tensor, Tensor]:
        """Return features (batch, n_mels, frames) moved in pitch, and by how many semitones each (batch,), uniform within ±."""
        shift = SampleRandom(seeds, PITCH_STREAM).uniform(1, low=-semitones, high=semitones).squeeze(1)
        return shift_pitch(features, shift, self.frontend), shift

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Push the un-augmented inputs of all ranks into the memory, newest last out."""
        fresh = gather_constant(features)[: self.memory.shape[0]]
        self.memory = torch.cat([fresh, self.memory[: self.memory.shape[0] - fresh.shape[0]]])
        self.filled = (self.filled + fresh.shape[0]).clamp_max(self.memory.shape[0])
        self.remembers = True
