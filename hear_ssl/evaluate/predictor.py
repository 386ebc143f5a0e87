"""The benchmark's predictor, several at once: MLPs of one depth side by side in batched matrix products.

Each member is [Linear, BatchNorm, Dropout, ReLU] x depth and a Linear, trained by Adam with its own learning rate and
initialisation, as in heareval 2021.1.3. Members share the data; a member that has stopped is taken out of the stack.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adam import adam


@dataclass(frozen=True)
class Settings:
    """One point of the grid."""

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    initialization: str = "xavier_uniform_"
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20

    def shape(self) -> tuple[Any, ...]:
        """Return what members of one stack have in common."""
        return (self.hidden_layers, self.hidden_dim, self.dropout, self.batch_size, self.max_epochs, self.check_val_every_n_epoch)


class Stack:
    """Members of one depth, width and batch size. Parameters carry a leading dimension of members."""

    def __init__(self, dim: int, labels: int, settings: list[Settings], multilabel: bool, generator: torch.Generator) -> None:
        self.settings, self.multilabel, self.steps = settings, multilabel, 0
        depth, hidden = settings[0].hidden_layers, settings[0].hidden_dim
        widths = [dim, *[hidden] * depth, labels]
        self.parameters: list[Tensor] = []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            gain = torch.nn.init.calculate_gain("linear" if layer == 0 else "relu")
            weights = [initial_weight(fan_in, fan_out, gain, one.initialization, generator) for one in settings]
            bias = (torch.rand(len(settings), 1, fan_out, generator=generator) * 2.0 - 1.0) / fan_in**0.5  # Linear's default
            self.parameters += [torch.stack(weights), bias]
            if layer < depth:
                self.parameters += [torch.ones(len(settings), fan_out), torch.zeros(len(settings), fan_out)]
        self.parameters = [parameter.requires_grad_() for parameter in self.parameters]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.running = [torch.stack([torch.zeros(len(settings), hidden), torch.ones(len(settings), hidden)]) for _ in range(depth)]

    def logits(self, rows: Tensor, training: bool) -> Tensor:
        """Return logits (members, batch, labels) of embeddings (batch, dim)."""
        members, parameters = len(self.settings), iter(self.parameters)
        hidden: Tensor = rows.unsqueeze(0).expand(members, -1, -1)
        for running in self.running:
            hidden = self._linear(hidden, parameters)
            scale, shift = next(parameters), next(parameters)
            flat = hidden.transpose(0, 1).flatten(1)  # (batch, members * hidden): one BatchNorm over all members
            flat = F.batch_norm(flat, running[0].view(-1), running[1].view(-1), scale.view(-1), shift.view(-1), training)
            flat = F.relu(F.dropout(flat, self.settings[0].dropout, training))
            hidden = flat.view(-1, members, scale.shape[1]).transpose(0, 1)
        return self._linear(hidden, parameters)

    @staticmethod
    def _linear(rows: Tensor, parameters: Any) -> Tensor:
        weight, bias = next(parameters), next(parameters)
        return torch.baddbmm(bias, rows, weight)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each member's mean loss (members,) of logits (members, batch, labels) and multi-hot targets (batch, labels)."""
        if self.multilabel:
            spread = targets.expand_as(logits)
            return F.binary_cross_entropy_with_logits(logits, spread, reduction="none").mean((1, 2))
        return -(logits.log_softmax(-1) * targets).sum(-1).mean(1)

    def train_batch(self, rows: Tensor, targets: Tensor) -> None:
        """Make one Adam step of every member."""
        gradients = torch.autograd.grad(self.loss(self.logits(rows, True), targets).sum(), self.parameters)
        self.steps += 1
        with torch.no_grad():
            for member, one in enumerate(self.settings):
                adam(
                    [parameter[member] for parameter in self.parameters],
                    [gradient[member].contiguous() for gradient in gradients],
                    [moment[member] for moment in self.first],
                    [moment[member] for moment in self.second],
                    [],
                    [torch.tensor(float(self.steps - 1)) for _ in self.parameters],
                    fused=True,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=one.lr,
                    weight_decay=0.0,
                    eps=1e-8,
                    maximize=False,
                )

    @torch.no_grad()
    def predict(self, rows: Tensor, batch_size: int = 8192) -> Tensor:
        """Return logits (members, rows, labels) in evaluation mode."""
        return torch.cat([self.logits(part, False) for part in torch.split(rows, batch_size)], 1)

    def state(self, member: int) -> list[Tensor]:
        """Return a copy of one member's parameters and running statistics."""
        return [tensor[member].detach().clone() for tensor in self.parameters] + [running[:, member].clone() for running in self.running]

    def load(self, member: int, state: list[Tensor]) -> None:
        """Put a copied state back."""
        with torch.no_grad():
            for tensor, saved in zip(self.parameters, state[: len(self.parameters)], strict=True):
                tensor[member] = saved
            for running, saved in zip(self.running, state[len(self.parameters) :], strict=True):
                running[:, member] = saved

    def keep(self, members: list[int]) -> None:
        """Take all other members out of the stack."""
        self.settings = [self.settings[member] for member in members]
        self.parameters = [tensor.detach()[members].requires_grad_() for tensor in self.parameters]
        self.first, self.second = [tensor[members] for tensor in self.first], [tensor[members] for tensor in self.second]
        self.running = [running[:, members].contiguous() for running in self.running]


def initial_weight(fan_in: int, fan_out: int, gain: float, how: str, generator: torch.Generator) -> Tensor:
    """Return Xavier weights (fan_in, fan_out) (Glorot and Bengio, 2010, eq. 16). Raises ValueError for other names."""
    spread = gain * (2.0 / (fan_in + fan_out)) ** 0.5
    if how == "xavier_normal_":
        normal: Tensor = torch.randn(fan_in, fan_out, generator=generator) * spread
        return normal
    if how == "xavier_uniform_":
        uniform: Tensor = (torch.rand(fan_in, fan_out, generator=generator) * 2.0 - 1.0) * (3.0**0.5 * spread)
        return uniform
    raise ValueError(f"initialization {how!r} is not known; allowed are xavier_uniform_ and xavier_normal_")
