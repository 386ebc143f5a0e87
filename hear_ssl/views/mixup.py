"""Log-mixup-exp: the power of an earlier input mixed into each sample (Niizumi et al., BYOL for Audio, 2023, section III)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hear_ssl.model.options import FrontendConfig, option
from hear_ssl.views.memory import Remembering


class Mixup(Remembering):
    """Mix with inputs of earlier steps and all ranks; checkpoints contain the memory.

    Views of equal length share one memory, so that each input is stored once.
    """

    @dataclass(frozen=True)
    class Options:
        """Options of the mixture."""

        share: float = option(0.2, "largest share of the earlier input", "share", 0.0, 1.0)
        memory: int = option(512, "earlier inputs in memory", "clips", 1, 65536)

    def __init__(self, frontend: FrontendConfig, crop_frames: int, share: float = Options.share, memory: int = Options.memory) -> None:
        super().__init__(memory, frontend.n_mels, crop_frames)
        self.frontend, self.share = frontend, share

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape, unchanged while the memory is empty."""
        random = self.random(seeds)
        if not self.source.remembers:
            return x
        share = random.uniform(1, 1, high=self.share)  # (batch, 1, 1)
        partner = self.source.memory[self.draw_place(random)]
        log_power, partner_log_power = self.log_power(x), self.log_power(partner)
        mixed = torch.logaddexp(torch.log1p(-share) + log_power, torch.log(share + 1e-12) + partner_log_power)
        return (mixed - self.frontend.mean) / self.frontend.std

    def log_power(self, features: Tensor) -> Tensor:
        """Undo the normalisation: ln of mel power."""
        return features * self.frontend.std + self.frontend.mean
