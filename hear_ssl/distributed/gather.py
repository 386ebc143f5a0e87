"""Rows and sums of all ranks, with their gradient.

Losses compare local rows with gathered columns, or use statistics summed over ranks. The mean loss over ranks then equals the
loss of one process with the whole batch, and so do the gradients after DistributedDataParallel has averaged them. These functions are
excluded from torch.compile: torch 2.11 traces the collectives inside them to wrong gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def uncompiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that torch.compile does not compile; it breaks the graph there.

    torch.compiler.disable would do the same, but it imports torch._dynamo, which doubles the time of every `--help`.
    """
    plain: Callable[Arguments, Result] = _disable_dynamo(function)
    return plain


def world() -> tuple[int, int]:
    """Return (rank, number of ranks); (0, 1) when no process group is initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        return gather_constant(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.count
        return _summed(gradients[0])[start : start + ctx.count]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


@uncompiled
def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows (ranks * batch, ...) of all ranks in rank order; the gradient flows back to each rank's own rows."""
    if world()[1] == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


@uncompiled
def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over ranks; the gradient of every rank's loss flows back to every rank's value."""
    if world()[1] == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


@uncompiled
@torch.no_grad()
def gather_constant(rows: Tensor) -> Tensor:
    """Return the rows of all ranks without gradient."""
    ranks = world()[1]
    if ranks == 1:
        return rows
    pieces = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(ranks)]
    dist.all_gather(pieces, rows.contiguous())
    return torch.cat(pieces)
