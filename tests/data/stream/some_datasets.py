"""Datasets for the tests; a worker imports this module alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tests.data.sounds import tone

RATE = 16000


class Tones(Dataset[Any]):
    """A tone of its own length for each number; `random` adds noise from the global generators."""

    def __init__(self, count: int = 20, rate: int = 0, noise: float = 0.0, **attributes: Any) -> None:
        self.count, self.rate, self.noise = count, rate, noise
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        waveform = torch.from_numpy(tone(0.25 + 0.05 * number, 300.0 + 20 * number, self.rate or RATE))
        waveform = waveform + self.noise * (torch.rand(1) + float(np.random.rand()) + random.random())
        return (waveform[None], self.rate, "a label") if self.rate else waveform


class Fixed(Dataset[Any]):
    """The same item everywhere."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 30

    def __getitem__(self, number: int) -> Any:
        if isinstance(self.item, Exception):
            raise self.item
        return self.item


class Unloadable(Fixed):
    def __setstate__(self, state: dict[str, Any]) -> None:
        raise RuntimeError("only here")
