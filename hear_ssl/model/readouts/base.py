"""What every readout offers to the embedder."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Tuple

from torch import Tensor, nn

OFFERED = ("layer_dims", "layer_names", "n_mels", "time_stride", "hop_samples", "sample_rate", "before")  # to __init__, by name


class Chunk(NamedTuple):
    """A part of the clips, in the order of time.

    layers: the tokens of every layer, first to last, each (batch, tokens, layer_dim). features: their frames (batch, n_mels,
    tokens * time_stride). timestamps: the timestamps that the tokens stand for, as a slice of all timestamps of the clips.
    """

    layers: List[Tensor]
    features: Tensor
    timestamps: slice


class Readout(nn.Module):
    """What an embedding has of the tokens and the features of a clip.

    A readout is a subclass with a frozen dataclass `Options` nested in it, whose fields `__init__` accepts as keywords, with what else
    its signature names of layer_dims, layer_names, n_mels, time_stride, hop_samples and sample_rate. Long clips come in chunks; the
    result must not depend on where they are cut. It sets these attributes:
    kinds: whether it makes an embedding of the whole clip ("scene"), one of every timestamp ("timestamp"), or either.
    width: dimensions of its embedding.
    maps_before: whether it maps the embedding of the readouts before it in the list, which `__init__` is given as `before`, onto another.
    """

    kinds: Tuple[str, ...] = ("scene",)
    width: int = 0
    maps_before: bool = False

    def start(self, out: Tensor) -> Any:
        """Return the state for new clips, which `add` changes.

        out: where the embedding will be, (batch, width) or (batch, timestamps, width), float32, not initialised; `add` may write there.
        """
        return out

    def add(self, state: Any, chunk: Chunk) -> None:
        """Take in the next chunk of the clips."""
        raise NotImplementedError

    def result(self, state: Any) -> Tensor:
        """Return the embedding: (batch, width) of scenes, (batch, timestamps, width) of timestamps; here `out`, as `add` wrote it."""
        embedding: Tensor = state
        return embedding
