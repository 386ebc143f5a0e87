"""What every encoder offers to the embedder."""

from __future__ import annotations

from typing import List, Optional, Tuple

from torch import Tensor, nn


class Encoder(nn.Module):
    """Features (batch, n_mels, frames) to the tokens of every layer.

    An encoder is a subclass with a frozen dataclass `Options` nested in it, whose fields `__init__` accepts as keywords, with
    n_mels if it names that. It sets these attributes:
    time_stride: frames a token stands for; frames given must be a multiple of it.
    layer_dims: width of each layer's tokens.
    layer_names: what readouts call the layers; 0, 1, ... when it is empty.
    halo_frames: a token depends on no frame further than this from its own frames, a multiple of time_stride.
    chunk_frames: 0 when tokens do not depend on where a long clip is cut; otherwise clips are cut at multiples of it,
    whoever calls, so that the result is the same.
    batch_frames: frames of a batch of clips that a CPU encodes at once: enough for large products, few enough for its caches.
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

        kept: (batch, k) sorted indices of the time steps to encode, all by default; the result then has k tokens. Only an
        encoder that can drop time steps is given them.
        """
        raise NotImplementedError
