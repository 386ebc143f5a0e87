"""The model that ships: log-mel frontend, encoder, pooling, weights and the HEAR API, in plain torch.

The functions are imported on first use, so that reading a config does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from .embedder import Embedder
    from .encoders import Encoder
    from .hear import get_scene_embeddings, get_timestamp_embeddings, load_model
    from .options import option
    from .readouts import Chunk, Readout

MODULES = {
    "Chunk": "readouts",
    "Embedder": "embedder",
    "Encoder": "encoders",
    "Readout": "readouts",
    "get_scene_embeddings": "hear",
    "get_timestamp_embeddings": "hear",
    "load_model": "hear",
    "option": "options",
}
__all__ = [
    "Chunk",
    "Embedder",
    "Encoder",
    "Readout",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "load_model",
    "option",
]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f".{MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return [*__all__, *globals()]
