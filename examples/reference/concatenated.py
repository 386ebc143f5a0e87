"""Several encoders on the same features as one encoder, whose layers can be selected by name.

`first.0`, `first.1`, ... are the layers of the first encoder without its last; `last.0`, `last.1`, ... the last layers of all encoders. A
wheel of a model with this encoder contains this file, so it imports only torch and hear_ssl.model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from torch import Tensor, nn

from hear_ssl.model import Encoder, option
from hear_ssl.model.encoders import ENCODERS, build_encoder
from hear_ssl.model.options import select


class Concatenated(Encoder):
    """The layers of the first encoder and the last layers of the others, as combined by combine.py."""

    @dataclass(frozen=True)
    class Options:
        """The options of the encoders."""

        encoders: str = option("", 'JSON list of encoders with their options, such as [{"audio_ntt": {"dim": 512}}]')

    def __init__(self, n_mels: int, encoders: str = Options.encoders) -> None:
        """Build with random weights. Raises ValueError unless the encoders fit the bands and have tokens of equal length."""
        super().__init__()
        if not encoders:
            raise ValueError("encoders is empty; examples/reference/combine.py writes it")
        built = []
        for encoder in json.loads(encoders):
            ((name, options),) = encoder.items()
            built.append(build_encoder(select(ENCODERS, name, options, "encoders"), n_mels))
        first = built[0]
        for place, encoder in enumerate(built):
            if (encoder.time_stride, encoder.chunk_frames) != (first.time_stride, first.chunk_frames):
                raise ValueError(
                    f"encoder {place} has tokens of {encoder.time_stride} frames in windows of {encoder.chunk_frames}, the first of "
                    f"{first.time_stride} in {first.chunk_frames}; combine encoders that agree in both"
                )
        self.encoders = nn.ModuleList(built)
        self.time_stride, self.chunk_frames = first.time_stride, first.chunk_frames
        self.halo_frames = max(encoder.halo_frames for encoder in built)
        self.batch_frames = min(encoder.batch_frames for encoder in built)
        self.layer_dims = (*first.layer_dims[:-1], *(encoder.layer_dims[-1] for encoder in built))
        lower = [f"first.{place}" for place in range(len(first.layer_dims) - 1)]
        self.layer_names = (*lower, *(f"last.{place}" for place in range(len(built))))

    def forward(self, features: Tensor, kept: Tensor | None = None) -> list[Tensor]:
        """Return the tokens (batch, tokens, layer_dim) of each named layer for features (batch, n_mels, frames)."""
        outputs: list[list[Tensor]] = [encoder(features) for encoder in self.encoders]
        return [*outputs[0][:-1], *(layers[-1] for layers in outputs)]
