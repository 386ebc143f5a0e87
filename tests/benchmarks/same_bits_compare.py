"""Compare tensors by name, bit for bit, and report the first difference."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from hear_ssl.model.weights import read_tensors

Tensors = dict[str, Tensor]

RENAMED: list[tuple[str, str]] = [  # prefixes of tensors in a checkpoint: in OLD, in NEW
    (f"views.{name}", f"views.views.0.{place}.{name}") for name in ("memory", "filled") for place in range(4)
]
TIMES = ("_share", "_per_second", "seconds")  # suffixes of columns of metrics.csv with times


def metrics_of(path: Path) -> Tensors:
    """Return the columns of a metrics.csv as float64, without times."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if not name.endswith(TIMES)]
    return {f"metrics.csv {name}": torch.tensor([float(row[name] or "nan") for row in rows], dtype=torch.float64) for name in names}


def tensors_of(path: Path) -> Tensors:
    """Return the tensors of a safetensors file."""
    found: Tensors = read_tensors(path)
    return found


def by_item(name: str, tensors: Tensors) -> dict[str, Tensors]:
    """Return tensors by item: the part of their names before a colon and `name`, or only `name` without a colon."""
    items: dict[str, Tensors] = {}
    for key, tensor in tensors.items():
        item, colon, rest = key.partition(":")
        items.setdefault(f"{name}: {item}" if colon else name, {})[rest if colon else key] = tensor
    return items


def renamed(old: Tensors, new: Tensors) -> tuple[Tensors, list[str]]:
    """Return OLD's tensors with NEW's names, as far as they are in the table, and the renamings that were used."""
    found, used = {}, []
    for name, tensor in old.items():
        for before, after in RENAMED:
            moved = after + name[len(before) :]
            if name.startswith(before) and name not in new and moved in new:
                name = moved
                used.append(f"{before}* is {after}*")
        found[name] = tensor
    return found, sorted(set(used))


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether type, shape and every bit agree."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def difference(name: str, one: Tensor, other: Tensor) -> str:
    """Return a line on the first and the largest difference of two tensors."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"{name} is {one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
    first, second = one.reshape(-1), other.reshape(-1)
    bits = [tensor.contiguous().view(torch.uint8).reshape(len(tensor), -1) for tensor in (first, second)]
    place = int((bits[0] != bits[1]).any(1).nonzero()[0])
    largest = float((first.double() - second.double()).abs().max())
    values = f"{first[place].item()!r} and {second[place].item()!r}"
    return f"{name}[{place} of {len(first)}] is {values}, largest difference {largest:.3g}"


def line_of(old: Tensors, new: Tensors) -> str:
    """Return `same`, or `differs: ` and the first difference, with the renamings used."""
    old = {name: tensor for name, tensor in old.items() if name in new or tensor.numel()}  # empty tensors may be missing
    old, used = renamed(old, new)
    note = f" (renamed: {', '.join(used)})" if used else ""
    for name in {**old, **new}:
        if name not in old or name not in new:
            return f"differs: first difference {name} is only in {'OLD' if name in old else 'NEW'}{note}"
        if not same(old[name], new[name]):
            return f"differs: first difference {difference(name, old[name], new[name])}{note}"
    return f"same{note}" if old else "differs: nothing was computed"
