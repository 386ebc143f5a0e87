"""Log-mixup-exp: the power of an earlier input mixed into each sample (Niizumi et al., BYOL for Audio, 2023, section III)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hear_ssl.distributed.gather import gather_constant
from hear_ssl.model.options import FrontendConfig, option
from hear_ssl.views.base import Augmentation


class Mixup(Augmentation):
    """Mixes with inputs of earlier steps and all ranks, which it keeps across checkpoints.

    Views of one length share the memory of the first of them, so that each input is kept once.
    """

    @dataclass(frozen=True)
    class Options:
        """Options of the mixture."""

        share: float = option(0.2, "largest share of the earlier input", "share", 0.0, 1.0)
        memory: int = option(512, "earlier inputs kept", "clips", 1, 65536)

    memory: Tensor
    filled: Tensor

    def __init__(self, frontend: FrontendConfig, crop_frames: int, share: float = Options.share, memory: int = Options.memory) -> None:
        super().__init__()
        self.frontend, self.share = frontend, share
        self.register_buffer("memory", torch.zeros(memory, frontend.n_mels, crop_frames))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.remembers = False  # whether `filled` is above 0, known without asking the device at every step
        self.others: list[Mixup] = []  # the one whose memory this one uses, in a list so that it is not a submodule

    def share_memory_of(self, other: Mixup) -> bool:
        """Use another's memory if it has the same shape, and return whether it has."""
        if other.memory.shape != self.memory.shape:
            return False
        self.others = [other]
        del self.memory, self.filled
        return True

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.remembers = not self.others and bool(self.filled)

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return features of the same shape; as they are while nothing is remembered."""
        source, random = self.others[0] if self.others else self, self.random(seeds)
        if not source.remembers:
            return x
        share = random.uniform(1, 1, high=self.share)  # (batch, 1, 1)
        partner = source.memory[random.integers(source.filled)]
        log_power, partner_log_power = self.log_power(x), self.log_power(partner)
        mixed = torch.logaddexp(torch.log1p(-share) + log_power, torch.log(share + 1e-12) + partner_log_power)
        return (mixed - self.frontend.mean) / self.frontend.std

    def log_power(self, features: Tensor) -> Tensor:
        """Undo the normalisation: ln of mel power."""
        return features * self.frontend.std + self.frontend.mean

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Push the inputs of all ranks into the memory; the oldest are dropped."""
        if self.others:
            return
        fresh = gather_constant(features)[: self.memory.shape[0]]
        self.memory = torch.cat([fresh, self.memory[: self.memory.shape[0] - fresh.shape[0]]])
        self.filled = (self.filled + fresh.shape[0]).clamp_max(self.memory.shape[0])
        self.remembers = True
