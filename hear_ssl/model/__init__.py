"""The model that ships: log-mel frontend, encoder, pooling, weights and the HEAR API, in plain torch.

The functions are imported when they are first asked for, so that reading a config needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from .embedder import Embedder
    from .encoders import Encoder
    from .hear import get_scene_embeddings, get_timestamp_embeddings, load_model
    from .options import option

__all__ = ["Embedder", "Encoder", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "option"]


def __getattr__(name: str) -> Any:
    if name == "Embedder":
        from .embedder import Embedder

        return Embedder
    if name == "Encoder":
        from .encoders import Encoder

        return Encoder
    if name == "option":
        from .options import option

        return option
    if name in __all__:
        from . import hear

        return getattr(hear, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return [*__all__, *globals()]
