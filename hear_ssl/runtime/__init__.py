"""The model that ships: the HEAR API over a log-mel frontend and an encoder, in torch alone."""

from .embedder import Embedder
from .hear import get_scene_embeddings, get_timestamp_embeddings, load_model

__all__ = ["Embedder", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
