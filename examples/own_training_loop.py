"""Losses, views and encoders of hear_ssl in a plain PyTorch training loop.

python examples/own_training_loop.py FILE.wav FILE.wav ...
"""

from __future__ import annotations

import sys

import soundfile
import torch
from torch import Tensor, nn

from hear_ssl.model.encoders.audio_ntt import AudioNTT
from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig
from hear_ssl.objectives import Encoded, NTXent
from hear_ssl.views.masks import FrequencyMasks
from hear_ssl.views.waveform import Gain, Noise


class TwoViews(nn.Module):
    """Compute the loss between two views of waveforms."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.noise, self.masks, self.objective = Gain(), Noise(), FrequencyMasks(), NTXent(dim=128, temperature=0.2)
        self.encoder = AudioNTT(n_mels=64, channels=16, dim=128)
        self.frontend = LogMel(FrontendConfig(), self.encoder.time_stride)

    def forward(self, crops: Tensor) -> Tensor:
        """Return the loss of crops (batch, time)."""
        loss: Tensor = self.objective(Encoded(clip=torch.stack([self.embedded(crops), self.embedded(crops)])))
        return loss

    def embedded(self, crops: Tensor) -> Tensor:
        """Return embeddings (batch, dim) of a view of crops (batch, time)."""
        seeds = torch.randint(2**62, (3, len(crops)))  # augmentations draw random numbers from one seed per clip
        features = self.masks(self.frontend(self.noise(self.gain(crops, seeds[0]), seeds[1])), seeds[2])
        tokens: Tensor = self.encoder(features)[-1]  # (batch, tokens, dim)
        return tokens.mean(1) + tokens.amax(1)


def main(files: list[str], steps: int = 20) -> float:
    """Train on one batch with the first second of every file (mono, 16 kHz) and return the last loss."""
    model = TwoViews()
    batch = torch.stack([torch.from_numpy(soundfile.read(file, 16000, dtype="float32", fill_value=0.0)[0]) for file in files])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}  loss {loss.item():.4f}")
    return float(loss.detach())


if __name__ == "__main__":
    main(sys.argv[1:])
