"""Train on a torch dataset instead of shards: here, the WAV files in a folder.

Exact order, resuming and training on several GPUs work as with shards. The trained model is evaluated and exported like any other.

python examples/torch_dataset.py FOLDER RUN
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

import hear_ssl


class Recordings(Dataset[tuple[Tensor, int]]):
    """Waveforms (channels, time) with their sample rates (Hz); hear_ssl mixes to mono, resamples and cuts crops."""

    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).rglob("*.wav"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        samples, rate = soundfile.read(self.files[number], dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T), rate


def main(folder: str, run: str, steps: int = 30, **overrides: Any) -> hear_ssl.Run:
    """Train the recipe simclr on the WAV files in a folder and return the run. overrides: config keys by dotted name."""
    logging.basicConfig(level="INFO", format="%(message)s")  # progress
    small = {"encoder.audio_ntt.channels": 16, "encoder.audio_ntt.dim": 128, "data.batch_size": 16, "wandb": "disabled"}
    return hear_ssl.fit("simclr", data=Recordings(folder), steps=steps, run=run, overrides={**small, **overrides})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(main(sys.argv[1], sys.argv[2]))
