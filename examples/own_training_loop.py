"""Losses, augmentations and encoders of hear_ssl in a plain PyTorch training loop.

python examples/own_training_loop.py FILE FILE ...

FILE: a sound of any format and sample rate.
"""

from __future__ import annotations

import sys

import soundfile
import soxr
import torch
from torch import Tensor, nn

from hear_ssl.model.encoders.audio_ntt import AudioNTT
from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig
from hear_ssl.objectives import Encoded, NTXent
from hear_ssl.views.masks import FrequencyMasks
from hear_ssl.views.waveform import Gain, Noise


def read(file: str) -> Tensor:
    """Return the first second of a sound file (time,), mono at 16 kHz; a shorter one is padded with zeros."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = torch.from_numpy(soxr.resample(samples.mean(1), rate, 16000))[:16000]
    return nn.functional.pad(mono, (0, 16000 - len(mono)))


def main(files: list[str], steps: int = 20) -> float:
    """Train on random batches of at most 16 files and return the last loss."""
    clips = torch.stack([read(file) for file in files])  # (files, time)
    encoder, objective = AudioNTT(n_mels=64, channels=16, dim=128), NTXent(dim=128, temperature=0.2)
    frontend = LogMel(FrontendConfig(), encoder.time_stride)
    gain, noise, masks = Gain(), Noise(), FrequencyMasks()

    def view(waveforms: Tensor) -> Tensor:
        seeds = torch.randint(2**62, (3, len(waveforms)))  # augmentations draw random numbers from one seed per clip
        features = masks(frontend(noise(gain(waveforms, seeds[0]), seeds[1])), seeds[2])  # (batch, n_mels, frames)
        tokens: Tensor = encoder(features)[-1]  # (batch, tokens, dim)
        return tokens.mean(1) + tokens.amax(1)

    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=1e-3)
    for step in range(steps):
        batch = clips[torch.randperm(len(clips))[:16]]
        loss: Tensor = objective(Encoded(clip=torch.stack([view(batch), view(batch)])))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        print(f"step {step + 1}  loss {loss.item():.4f}")
    return float(loss.detach())


if __name__ == "__main__":
    sys.exit(__doc__) if len(sys.argv) < 3 else main(sys.argv[1:])
