"""The interface of every readout."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Tuple

from torch import Tensor, nn

OFFERED = ("layer_dims", "layer_names", "n_mels", "time_stride", "hop_samples", "sample_rate", "before")  # to __init__, by name


class Chunk(NamedTuple):
    """Consecutive tokens of a batch of clips.

    layers: the tokens of every layer, first to last, each (batch, tokens, layer_dim). features: their frames (batch, n_mels,
    tokens * time_stride). timestamps: the timestamps of the tokens, as a slice of all timestamps of the clips.
    """

    layers: List[Tensor]
    features: Tensor
    timestamps: slice


class Readout(nn.Module):
    """Compute an embedding, or a part of one, from the tokens and features of a clip.

    A readout is a subclass with a nested frozen dataclass `Options`, whose fields `__init__` accepts as keywords; `__init__` also
    receives those of layer_dims, layer_names, n_mels, time_stride, hop_samples and sample_rate that its signature names. Long clips
    come in chunks; the result must not depend on where they are cut. It sets these attributes:
    kinds: whether it computes an embedding of the whole clip ("scene"), of every timestamp ("timestamp"), or either.
    width: dimensions of its embedding.
    maps_before: whether it maps the embedding of the readouts before it in the list; `__init__` receives them as `before`.
    """

    kinds: Tuple[str, ...] = ("scene",)
    width: int = 0
    maps_before: bool = False

    def start(self, out: Tensor) -> Any:
        """Return the state for new clips, which `add` updates.

        out: uninitialised float32 memory for the embedding, (batch, width) or (batch, timestamps, width); `add` may write to it.
        """
        return out

    def add(self, state: Any, chunk: Chunk) -> None:
        """Add the next chunk of the clips."""
        raise NotImplementedError

    def result(self, state: Any) -> Tensor:
        """Return the embedding, (batch, width) or (batch, timestamps, width); by default `out` as written by `add`."""
        embedding: Tensor = state
        return embedding
