"""BatchNorm over the batch of all ranks, on any device: torch's SyncBatchNorm refuses CPU tensors.

Ioffe and Szegedy (2015). Mean and variance are computed from sums over ranks, whose gradient flows back to every rank, so two
ranks with N clips each compute the same as one process with 2 N.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hear_ssl.distributed.gather import sum_over_ranks, world


class RankBatchNorm(_BatchNorm):
    """A replacement for BatchNorm1d and BatchNorm2d with the same parameters and buffers."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (batch, channels, ...), got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input (batch, channels, ...)."""
        if not self.training or world()[1] == 1:
            normalised: Tensor = super().forward(input)
            return normalised
        over = [place for place in range(input.dim()) if place != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        exact = input.float()
        count = exact.numel() // exact.shape[1] * world()[1]
        mean = sum_over_ranks(exact.sum(over)) / count
        centred = exact - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(over)) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def normalise_over_ranks(module: nn.Module) -> None:
    """Replace every BatchNorm1d and BatchNorm2d inside `module` by a RankBatchNorm with the same tensors."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.__class__ = RankBatchNorm  # type: ignore[assignment]
