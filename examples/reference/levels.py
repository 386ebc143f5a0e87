"""Rescale the layers of an encoder to the same RMS, without any other change of their outputs.

The benchmark's predictor does not normalise its input and learns large dimensions first; deviations over sounds are 30 times larger in a
trained layer than in a layer of random weights. The weights of a layer followed by a ReLU are multiplied by a factor, and those of the
next layer divided by it, which changes only the RMS of that layer. In blocks over time, the factor is cancelled at their input and
applied again at their output.
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

LEVEL = 0.4  # similar to the band statistics that the embedding contains in addition to the layers
SOUNDS = 256  # rendered, 1 to 4 s long


def bring_to_level(embedder: Embedder, times: Sequence[float] = (), sounds: int = SOUNDS) -> list[float]:
    """Rescale every layer to a root mean square deviation of LEVEL over rendered sounds; return the factors.

    The deviation is that of mean + max of a layer's tokens over time, as in a scene embedding. For encoders concatenated by
    concatenated.py, the lower layers are those of the first encoder; each last layer gets LEVEL multiplied by its number in `times`, if
    given. With blocks over time, the layer before them gets their factor. Raises ValueError for encoders other than audio_ntt, and when
    `times` does not have one positive number per encoder.
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
    """Raise ValueError unless an option has one positive number per encoder."""
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
    """Multiply the outputs of the local, hidden and output layer of an encoder by one factor each; blocks over time get the last one."""
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
