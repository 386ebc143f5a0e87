"""Copies of a network whose weights are an exponential moving average (EMA) of its weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a copy without gradient, the initial EMA of a network."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_ema(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Set slow = momentum * slow + (1 - momentum) * fast for parameters; copy buffers (BatchNorm statistics).

    All tensors are updated together: on a GPU this takes a few kernels instead of one per tensor.
    """
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1.0 - momentum)
    if buffers := list(slow.buffers()):
        torch._foreach_copy_(buffers, list(fast.buffers()))
