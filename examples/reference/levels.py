"""Rescale the layers of an encoder to one RMS, without changing what any of them encodes.

The benchmark's predictor does not normalise its input, and learns first from what is large; from a layer of random weights to
a trained one deviations over sounds grow 30 times. After a ReLU a factor on a layer's weights, which the next layer's weights
take out again, changes that layer's RMS and nothing else. Of blocks over time it is taken out where they read tokens, and put in
again where they add to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hear_ssl.model.embedder import Embedder
from hear_ssl.model.encoders import AudioNTT
from hear_ssl.model.encoders.audio_ntt import ContextBlock
from hear_ssl.model.pooling import pool_tokens
from hear_ssl.synthesis.instruments import Corpus

LEVEL = 0.4  # about that of band statistics, which the embedding has next to the layers
SOUNDS = 256  # generated, 1 to 4 s long


def bring_to_level(embedder: Embedder, times: Sequence[float] = (), sounds: int = SOUNDS) -> list[float]:
    """Scale every layer to a root mean square deviation of LEVEL over generated sounds; return their factors.

    A layer is what a scene has of it, mean + max of its tokens over time. Of encoders that concatenated.py combines the lower layers are
    the first one's, the last is each one's own, and deviates so many `times` as much, where given for each. With blocks over time the
    layer below them has their factor. Raises ValueError for another encoder than audio_ntt, and for `times` that are not one positive
    number an encoder.
    """
    encoder = embedder.encoder
    networks = list(getattr(encoder, "encoders", [encoder]))
    ours = [network for network in networks if isinstance(network, AudioNTT)]
    if len(ours) < len(networks):
        raise ValueError("only layers that end in a ReLU, or in blocks over time after one, can be rescaled: those of audio_ntt")
    if times:
        check_levels("--level", times, len(ours))
    parts = torch.split(deviations(embedder, sounds), list(encoder.layer_dims))
    lower = len(parts) - len(ours)
    relative = [*[1.0] * lower, *(times or [1.0] * len(ours))]
    factors = [LEVEL / float(part.square().mean().sqrt()) * time for part, time in zip(parts, relative, strict=True)]
    if len(ours[0].context):
        factors[lower - 1] = factors[lower]
    scale(ours[0], factors[:3])
    for network, factor in zip(ours[1:], factors[lower + 1 :], strict=True):
        scale(network, [1.0, 1.0, factor])
    return factors


def check_levels(option: str, levels: Sequence[float], encoders: int) -> None:
    """Raise ValueError unless an option's levels are one positive number an encoder."""
    if len(levels) != encoders or not all(0.0 < level < math.inf for level in levels):
        raise ValueError(
            f"{option} {' '.join(f'{level:g}' for level in levels)}: give a positive number for each encoder, {encoders} in all"
        )


@torch.inference_mode()
def deviations(embedder: Embedder, sounds: int) -> Tensor:
    """Return the standard deviation over sounds of mean + max over time of every layer, (sum of layer_dims,)."""
    corpus, pooled = Corpus(), []
    for number in range(sounds):
        audio = torch.as_tensor(corpus.render(number)[0], dtype=torch.float32)[None]
        layers = embedder.encoder(embedder.frontend(audio))
        pooled.append(torch.cat([pool_tokens(layer) for layer in layers], -1)[0])
    return torch.stack(pooled).std(0)


@torch.no_grad()
def scale(encoder: AudioNTT, factors: list[float]) -> None:
    """Multiply what the local, the hidden and the output layer of an encoder give by a factor each; blocks over time have the last."""
    layers = [encoder.get_submodule(name) for name in ("convolutions.1.1", "hidden.0", "output.1")]  # before their ReLU
    for layer, (below, factor) in zip(layers, pairwise([1.0, *factors]), strict=True):
        multiply(layer, factor / below, factor)
    for block in encoder.context:
        assert isinstance(block, ContextBlock)
        multiply(block.over_time, 1.0 / factors[-1], 1.0)
        multiply(block.mlp[-1], factors[-1], factors[-1])


def multiply(layer: nn.Module, weight: float, bias: float) -> None:
    """Multiply a layer's weight and its bias in place."""
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    layer.weight *= weight
    layer.bias *= bias
