"""A memory of earlier inputs of all ranks, which augmentations mix into the present inputs and checkpoints contain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hear_ssl.distributed.gather import gather_constant
from hear_ssl.sample_random import SampleRandom
from hear_ssl.views.base import Augmentation


class Remembering(Augmentation):
    """An augmentation with a memory. Augmentations of equal class and shape share one memory, so that each input is stored once."""

    memory: Tensor
    filled: Tensor

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        """Start with an empty memory of a shape (inputs, ...)."""
        super().__init__()
        self.register_buffer("memory", torch.zeros(shape, dtype=dtype))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.remembers = False  # whether `filled` is above 0, without reading it from the device at every step
        self.others: list[Remembering] = []  # the augmentation whose memory is used, in a list so that it is not a submodule

    @property
    def source(self) -> Remembering:
        """The augmentation whose memory this one uses."""
        return self.others[0] if self.others else self

    def share_memory_of(self, other: Remembering) -> bool:
        """Use the memory of another augmentation if it has the same class and shape, and return whether it does."""
        if type(other) is not type(self) or other.memory.shape != self.memory.shape:
            return False
        self.others = [other]
        del self.memory, self.filled
        return True

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.remembers = not self.others and bool(self.filled)

    def draw_place(self, random: SampleRandom) -> Tensor:
        """Return the index of an earlier input for each clip (batch,)."""
        return random.integers(self.source.filled)

    @torch.no_grad()
    def remember(self, inputs: Tensor) -> None:
        """Add the inputs (batch, ...) of all ranks to the memory and drop the oldest ones."""
        if self.others:
            return
        fresh = gather_constant(inputs.to(self.memory.dtype))[: self.memory.shape[0]]
        self.memory = torch.cat([fresh, self.memory[: self.memory.shape[0] - fresh.shape[0]]])
        self.filled = (self.filled + fresh.shape[0]).clamp_max(self.memory.shape[0])
        self.remembers = True
