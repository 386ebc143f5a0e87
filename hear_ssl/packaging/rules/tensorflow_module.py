"""A HEAR module whose model is a tf.Module, wrapped so that the checks can use torch tensors.

TensorFlow is not imported here: the module that returns such a model has imported it.
"""

from __future__ import annotations

import sys
from typing import Any, Tuple

import torch
from torch import Tensor, nn

ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")


def is_tensorflow(model: Any) -> bool:
    """Return whether a model is a tf.Module."""
    library: Any = sys.modules.get("tensorflow")
    return library is not None and isinstance(model, library.Module)


class Wrapped(nn.Module):
    """A tf.Module as a torch.nn.Module with the same attributes; `weights` are copies of its variables, for their size."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.wrapped = (model,)  # in a tuple, so that torch does not register it
        for number, variable in enumerate(getattr(model, "variables", ())):
            self.register_buffer(f"variable_{number}", torch.from_numpy(variable.numpy()))
        for name in ATTRIBUTES:
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))


def wrap(model: Any) -> Wrapped:
    """Return a tf.Module in a wrapper whose class is named after it."""
    wrapped: Wrapped = type(f"{type(model).__name__}, a tf.Module", (Wrapped,), {})(model)
    return wrapped


class TensorFlowModule:
    """The functions of a module for torch tensors."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.__file__, self.__name__ = module.__file__, module.__name__

    def load_model(self, *path: str) -> Wrapped:
        """Return the model, wrapped."""
        return wrap(self.module.load_model(*path))

    def get_scene_embeddings(self, audio: Tensor, model: Wrapped) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size) of audio (batch, time)."""
        return from_tensorflow(self.module.get_scene_embeddings(to_tensorflow(audio), *model.wrapped))

    def get_timestamp_embeddings(self, audio: Tensor, model: Wrapped) -> Tuple[Tensor, Tensor]:
        """Return timestamp embeddings (batch, frames, timestamp_embedding_size) and times in ms (batch, frames)."""
        embeddings, timestamps_ms = self.module.get_timestamp_embeddings(to_tensorflow(audio), *model.wrapped)
        return from_tensorflow(embeddings), from_tensorflow(timestamps_ms)


def to_tensorflow(audio: Tensor) -> Any:
    """Return audio as a tensor of TensorFlow."""
    library: Any = sys.modules["tensorflow"]
    return library.convert_to_tensor(audio.cpu().numpy())


def from_tensorflow(tensor: Any) -> Tensor:
    """Return a tensor of TensorFlow as one of torch. Raises TypeError for anything else."""
    library: Any = sys.modules["tensorflow"]
    if not isinstance(tensor, library.Tensor):
        raise TypeError(f"it returned {type(tensor).__name__}, not a tf.Tensor")
    return torch.from_numpy(tensor.numpy())
