"""Copies of a network that follow it as an exponential moving average (EMA) of its weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a copy that takes no gradient: the start of an EMA twin."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_ema(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Set slow = momentum * slow + (1 - momentum) * fast for parameters; copy buffers (BatchNorm statistics).

    All tensors at once: on a GPU a few kernels instead of one a tensor.
    """
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1.0 - momentum)
    if buffers := list(slow.buffers()):
        torch._foreach_copy_(buffers, list(fast.buffers()))
