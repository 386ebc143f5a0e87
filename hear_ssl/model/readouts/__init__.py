"""Readouts: they compute embeddings from the tokens and features of a clip. An embedding is the concatenation of a list of readouts."""

from __future__ import annotations

from typing import Dict, Type

from .bands import Around, Bands, Frames
from .base import OFFERED, Chunk, Readout
from .concatenated import Concatenated, build_readout
from .linear import Linear
from .pooled import Pooled
from .tokens import Contexts, Tokens

READOUTS: Dict[str, Type[Readout]] = {
    "pooled": Pooled,
    "bands": Bands,
    "tokens": Tokens,
    "contexts": Contexts,
    "frames": Frames,
    "around": Around,
    "linear": Linear,
}

__all__ = [
    "OFFERED",
    "READOUTS",
    "Around",
    "Bands",
    "Chunk",
    "Concatenated",
    "Contexts",
    "Frames",
    "Linear",
    "Pooled",
    "Readout",
    "Tokens",
    "build_readout",
]
