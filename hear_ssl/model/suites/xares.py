"""X-ARES (https://github.com/jimbozhang/xares): timestamp embeddings of audio that X-ARES converts to the model's rate.

python -m xares.run PACKAGE/suites/xares.py src/tasks/*.py   in a clone of its repository. It imports the path as a module, and expects
one name in it that ends in Encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..hear import get_timestamp_embeddings
from .clips import PACKAGE, loaded, manifest


class AudioEncoder(nn.Module):
    """Embeddings (n_sounds, n_timestamps, output_dim), one every `hop_size_in_ms`."""

    def __init__(self) -> None:
        """Load the weights of this package."""
        super().__init__()
        self.model = loaded()
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.timestamp_embedding_size
        self.hop_size_in_ms = float(manifest().sizes["hop_ms"])

    def forward(self, audio: Tensor) -> Tensor:
        """Return embeddings (n_sounds, n_timestamps, output_dim) of audio (n_sounds, n_samples) in [-1, 1]."""
        return get_timestamp_embeddings(audio.to(torch.float32), self.model)[0]


# X-ARES caches embeddings in a folder named after the class; the name must be different for each model and version.
AudioEncoder.__name__ = f"{PACKAGE}_{manifest().release}_Encoder"
