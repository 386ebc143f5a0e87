"""Views: augmentations of waveforms and log-mel features, batched on the device.

Every random number comes from the sample's own seed (`SampleRandom`), so a view depends on nothing else in the batch.
Log-mixup-exp after Niizumi et al., BYOL for Audio (2023), section III; masks after Park et al., SpecAugment (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hear_ssl.config import ViewsConfig
from hear_ssl.objectives.gather import gather_constant
from hear_ssl.random import SampleRandom
from hear_ssl.runtime.settings import FrontendConfig

WAVEFORM_STREAM, SPECTROGRAM_STREAM = 1, 2


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
        for view, original in enumerate(features.float()):
            random = SampleRandom(seeds, SPECTROGRAM_STREAM + 16 * view)
            mixed = self.mixup(original, random)
            mixed = mask(mixed, random, self.config.time_masks, self.config.time_mask_frames, dim=2)
            views.append(mask(mixed, random, self.config.frequency_masks, self.config.frequency_mask_bands, dim=1))
        if self.config.mixup > 0:
            self.remember(features[0].float())
        return torch.stack(views)

    def mixup(self, features: Tensor, random: SampleRandom) -> Tensor:
        """Mix a share of a remembered input's mel power into each sample; without memory return the features as they are."""
        filled = int(self.filled)
        if not filled:
            return features
        share = random.uniform(1, 1, high=self.config.mixup)  # (batch, 1, 1)
        partner = self.memory[random.integers(filled)]
        log_power, partner_log_power = self.log_power(features), self.log_power(partner)
        mixed = torch.logaddexp(torch.log1p(-share) + log_power, torch.log(share + 1e-12) + partner_log_power)
        return (mixed - self.frontend.mean) / self.frontend.std

    def log_power(self, features: Tensor) -> Tensor:
        """Undo the normalisation: ln of mel power."""
        return features * self.frontend.std + self.frontend.mean

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Push the un-augmented inputs of all ranks into the memory, newest last out."""
        fresh = gather_constant(features)[: self.memory.shape[0]]
        self.memory = torch.cat([fresh, self.memory[: self.memory.shape[0] - fresh.shape[0]]])
        self.filled = (self.filled + fresh.shape[0]).clamp_max(self.memory.shape[0])


def mask(features: Tensor, random: SampleRandom, count: int, longest: int, dim: int) -> Tensor:
    """Set `count` stretches of up to `longest` bands (dim 1) or frames (dim 2) of (batch, n_mels, frames) to the mean, 0."""
    size = features.shape[dim]
    if not count or not longest:
        return features
    length = random.uniform(count) * min(longest, size)  # (batch, masks)
    start = random.uniform(count) * (size - length)
    place = torch.arange(size, device=features.device)
    hidden = ((place >= start.unsqueeze(-1)) & (place < (start + length).unsqueeze(-1))).any(1)  # (batch, size)
    return features.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)
