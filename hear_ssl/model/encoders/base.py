"""The interface of every encoder."""

from __future__ import annotations

from typing import List, Optional, Tuple

from torch import Tensor, nn


class Encoder(nn.Module):
    """Features (batch, n_mels, frames) to the tokens of every layer.

    An encoder is a subclass with a nested frozen dataclass `Options`, whose fields `__init__` accepts as keywords; `__init__` also
    receives n_mels if its signature names it. It sets these attributes:
    time_stride: number of frames per token; the number of frames given is a multiple of it.
    layer_dims: width of each layer's tokens.
    layer_names: the names by which readouts select layers; 0, 1, ... when it is empty.
    halo_frames: receptive field beyond a token's own frames, on either side; a multiple of time_stride.
    chunk_frames: 0 when tokens do not depend on where a long clip is cut; otherwise clips are always cut at multiples of it, so
    that the result stays the same.
    batch_frames: frames of a batch that a CPU encodes at once: enough for large matrix products, few enough for its caches.
    can_drop: whether `forward` encodes only the `kept` time steps when they are given.
    """

    time_stride: int = 1
    layer_dims: Tuple[int, ...] = ()
    layer_names: Tuple[str, ...] = ()
    halo_frames: int = 0
    chunk_frames: int = 0
    batch_frames: int = 3200
    can_drop: bool = False

    def forward(self, features: Tensor, kept: Optional[Tensor] = None) -> List[Tensor]:
        """Return each layer's tokens (batch, tokens, layer_dim), first to last.

        kept: (batch, k) sorted indices of the time steps to encode, all by default; the result then has k tokens. It is only given
        to an encoder with can_drop.
        """
        raise NotImplementedError
