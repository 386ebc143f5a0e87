"""Weight decay by parameter group, and the learning rate at every step."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from hear_ssl.training.settings import OptimizerConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return trained parameters in two groups: with weight decay (matrices, filters) and without (biases, norms)."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, steps: int, options: OptimizerConfig) -> float:
    """Return the learning rate at a step relative to the highest: linear warm-up, then cosine decay to the final rate."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    progress = min(1.0, (step - options.warmup_steps) / max(1, steps - options.warmup_steps))
    final = options.final_learning_rate / options.learning_rate if options.learning_rate else 0.0
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * progress)) / 2.0
