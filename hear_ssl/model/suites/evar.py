"""EVAR (https://github.com/nttcslab/eval-audio-repr): scene embeddings, and timestamp embeddings as its frames.

In a clone of its repository: python -m PACKAGE suites evar > config/PACKAGE.yaml, then
python -m PACKAGE.suites.evar config/PACKAGE.yaml esc50, which is lineareval.py with this class.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import evar
from evar.ar_base import BaseAudioRepr
from torch import Tensor

from ..hear import get_scene_embeddings, get_timestamp_embeddings
from .clips import PACKAGE, loaded


class AudioRepresentation(BaseAudioRepr):  # type: ignore[misc]
    """This model as EVAR's audio representation."""

    def __init__(self, cfg: Any) -> None:
        """Load the weights of this package; raises ValueError when the config has another sampling rate."""
        super().__init__(cfg=cfg)
        self.model = loaded()
        if cfg.sample_rate != self.model.sample_rate:
            raise ValueError(f"the config has sample_rate: {cfg.sample_rate}; this model has {self.model.sample_rate}")

    def precompute(self, device: Any, data_loader: Any) -> None:
        """Do nothing: the model needs no statistics of the data."""

    def encode_frames(self, batch_audio: Tensor) -> Tensor:
        """Return embeddings (n_sounds, timestamp_embedding_size, n_timestamps) of audio (n_sounds, n_samples) in [-1, 1]."""
        return get_timestamp_embeddings(batch_audio, self.model)[0].transpose(1, 2)

    def forward(self, batch_audio: Tensor) -> Tensor:
        """Return embeddings (n_sounds, scene_embedding_size) of audio (n_sounds, n_samples) in [-1, 1]."""
        return get_scene_embeddings(batch_audio, self.model)


def main() -> None:
    """Run lineareval.py of the working folder; the config names evar.PACKAGE.AudioRepresentation."""
    setattr(evar, PACKAGE, sys.modules[__name__])
    sys.argv[0] = "lineareval.py"
    runpy.run_path("lineareval.py", run_name="__main__")


if __name__ == "__main__":
    main()
