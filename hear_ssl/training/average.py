"""The exponential moving average (EMA) of the encoder's weights over training, which probe and export use (trainer.ema).

Polyak and Juditsky (1992); exponential average with growing decay: TensorFlow's `tf.train.ExponentialMovingAverage`,
https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage. torch's `AveragedModel` is not used, because its multi-tensor
update has one decay for all steps, or reads the step from the device. Lightning's `EMAWeightAveraging` is not used, because it also
averages heads and teacher, and a finished run cannot be trained further. The average is independent of an objective's EMA teacher and
does not influence training.
"""

from __future__ import annotations

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """Return the decay at an optimizer step, counted from 1: min(decay, (1 + step) / (10 + step)), so that early weights fade quickly."""
    return min(decay, (1.0 + step) / (10.0 + step))


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Set average = decay * average + (1 - decay) * network, for parameters and for buffers such as the statistics of BatchNorm.

    BatchNorm statistics are averaged like the weights that they belong to. Integer buffers are copied. All tensors are updated together:
    on a GPU this takes a few kernels instead of one per tensor.
    """
    pairs = list(zip([*average.parameters(), *average.buffers()], [*network.parameters(), *network.buffers()], strict=True))
    real = [pair for pair in pairs if pair[0].is_floating_point()]
    counts = [pair for pair in pairs if not pair[0].is_floating_point()]
    if real:
        torch._foreach_lerp_([mine for mine, _ in real], [theirs for _, theirs in real], 1.0 - decay)
    if counts:
        torch._foreach_copy_([mine for mine, _ in counts], [theirs for _, theirs in counts])
