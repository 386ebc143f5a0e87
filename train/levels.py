"""Bring the layers of an encoder to one level, without changing what any of them tells.

The benchmark's predictor does not normalise its input, and learns first from what is large; from a layer of random weights to
a trained one deviations over sounds grow 30 times. Behind a ReLU a factor on a layer's weights, which the next layer's weights
take out again, changes that layer's level and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hear_ssl.data.synthetic import Corpus
from hear_ssl.runtime.embedder import Embedder
from hear_ssl.runtime.encoders import AudioNTT, Towers
from hear_ssl.runtime.pooling import pool_tokens

LEVEL = 0.4  # about that of band statistics, which stand beside the layers
SOUNDS = 256  # generated, 1 to 4 s long


def bring_to_level(embedder: Embedder, times: Sequence[float] = (), sounds: int = SOUNDS) -> list[float]:
    """Scale every layer to a root mean square deviation of LEVEL over generated sounds; return their factors.

    A layer is what a scene has of it, mean + max of its tokens over time; the lower layers are the first tower's, the last is
    each tower's own, and deviates so many `times` as much, where given for each tower. Raises ValueError for an encoder whose
    layers do not all end in a ReLU, and for `times` that are not one positive number a tower.
    """
    encoder = embedder.encoder
    towers = list(encoder.towers) if isinstance(encoder, Towers) else [encoder]
    if times and (len(times) != len(towers) or not all(0 < time < math.inf for time in times)):
        raise ValueError(f"--level {' '.join(f'{time:g}' for time in times)}: give a positive number for each of the {len(towers)} towers")
    if not all(isinstance(tower, AudioNTT) and not len(tower.context) for tower in towers):
        raise ValueError("only layers that end in a ReLU can be brought to a level: those of audio_ntt without encoder.context")
    widths = [*encoder.layer_dims[:-1], *[encoder.layer_dims[-1] // len(towers)] * len(towers)]
    parts = torch.split(deviations(embedder, sounds), widths)
    relative = [*[1.0] * len(encoder.layer_dims[:-1]), *(times or [1.0] * len(towers))]
    factors = [LEVEL / float(part.square().mean().sqrt()) * time for part, time in zip(parts, relative, strict=True)]
    lower, last = factors[: -len(towers)], factors[-len(towers) :]
    scale(towers[0], [*lower, last[0]])
    for tower, factor in zip(towers[1:], last[1:], strict=True):
        scale(tower, [1.0, 1.0, factor])
    return factors


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
def scale(encoder: nn.Module, factors: list[float]) -> None:
    """Multiply what the local, the hidden and the output layer of an AudioNTT give by a factor each."""
    layers = [encoder.get_submodule(name) for name in ("convolutions.1.1", "hidden.0", "output.1")]  # before their ReLU
    for layer, (below, factor) in zip(layers, pairwise([1.0, *factors]), strict=True):
        assert isinstance(layer.weight, Tensor)
        assert isinstance(layer.bias, Tensor)
        layer.weight *= factor / below
        layer.bias *= factor
