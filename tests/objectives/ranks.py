"""One objective on one process with the whole batch, and on two gloo processes with half of it each."""

from __future__ import annotations

import os
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hear_ssl import objectives as ours
from hear_ssl.distributed.batch_norm import normalise_over_ranks
from hear_ssl.model.options import Part
from hear_ssl.objectives.base import options_with_weight
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.weighted_sum import build_objective, objective

CLIPS, TOKENS, DIM, RANKS = 8, 5, 12, 2
Parts = dict[str, Part]


def small(name: str, **options: Any) -> Parts:
    """Return an objective of ours alone, with small heads."""
    sizes = {item.name: 8 if item.name == "projection_dim" else 16 for item in fields(options_with_weight(ours.OBJECTIVES[name]))}
    sizes = {key: size for key, size in sizes.items() if key in ("projection_dim", "hidden_dim")}
    return {name: objective(name, **{**sizes, **options})}


OBJECTIVES: dict[str, Parts] = {
    **{name: small(name) for name in ours.OBJECTIVES},
    "nt_xent_chunked": small("nt_xent", chunk=3),
    "cola_symmetric": small("cola", symmetric=True, similarity="cosine"),
    "frame_guarded": small("frame", guard_ms=40.0),
    "sum": {**small("nt_xent"), **small("frame", weight=0.5), **small("pitch", weight=0.1)},
}

COMPILED = "nt_xent, compiled"


class Toy(nn.Module):
    """An encoder with BatchNorm, its average, and the objective, on rows of views."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM))
        self.teacher = nn.Sequential(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM)).requires_grad_(False)
        self.objective = build_objective(parts, DIM, token_hop_ms=40.0)

    def forward(self, views: Tensor, shift: Tensor) -> Tensor:
        """Return the loss of views (3, batch, tokens, dim)."""
        tokens = self.encoder(views.flatten(0, 2)).reshape(views.shape)
        teacher = self.teacher(views[:2].flatten(0, 2)).reshape(views[:2].shape)
        clip, teacher_clip = (layer.mean(2) + layer.amax(2) for layer in (tokens[:2], teacher))
        encoded = Encoded(clip, tokens[:2], teacher_clip=teacher_clip, teacher_tokens=teacher)
        encoded.shifted_tokens, encoded.pitch_shift = tokens[2], shift
        loss: Tensor = self.objective(encoded)
        return loss


def data() -> tuple[Tensor, Tensor]:
    """Return views (3, CLIPS, TOKENS, DIM) and shifts (CLIPS,)."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(1, CLIPS, TOKENS, DIM, generator=generator)
    return base + 0.5 * torch.randn(3, CLIPS, TOKENS, DIM, generator=generator), torch.linspace(-3.0, 3.0, CLIPS)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return every trained parameter's gradient and every buffer by name."""
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    return found | {f"buffer {name}": buffer.float() for name, buffer in model.named_buffers()}


def alone(name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss, gradients and buffers of one process with all clips."""
    model = Toy(OBJECTIVES[name])
    loss = model(*data())
    loss.backward()
    return loss.detach(), gradients(model)


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    rows = slice(rank * CLIPS // RANKS, (rank + 1) * CLIPS // RANKS)
    views, shift = data()
    results = {}
    for name, config in (OBJECTIVES | {COMPILED: OBJECTIVES["nt_xent"]}).items():
        model = Toy(config)
        normalise_over_ranks(model)
        if name == COMPILED:
            model.encoder.compile(dynamic=False, backend="aot_eager")  # as Module.compile_parts does, without a C++ compiler
        parallel = DistributedDataParallel(model)
        loss = parallel(views[:, rows], shift[rows])
        loss.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        results[name] = (total / RANKS, gradients(model))
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.barrier()
    dist.destroy_process_group()


def two_ranks(folder: Path) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """Return mean loss, gradients and buffers of every objective on two gloo processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, str(folder)), nprocs=RANKS)  # type: ignore[no-untyped-call]
    results: dict[str, tuple[Tensor, dict[str, Tensor]]] = torch.load(folder / "results.pt", weights_only=True)
    return results
