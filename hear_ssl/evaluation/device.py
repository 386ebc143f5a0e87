"""The device on which a model computes its embeddings: a GPU if there is one, or the user's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose_device(name: str, option: str = "--device") -> torch.device:
    """Return the device of that name; `auto` is a CUDA GPU, otherwise an Apple GPU, otherwise the CPU.

    Raises ValueError that names `option` when there is no such device.
    """
    if name in ("auto", "gpu"):
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if name == "gpu" and found == "cpu":
            raise ValueError(f"{option} is gpu, but torch finds no GPU here; give cpu, or auto for a GPU when there is one")
        name = found
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{option} is {name!r}; give auto, cpu, cuda, cuda:N or mps") from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts:
        raise ValueError(f"{option} is {name!r}; give auto, cpu, cuda, cuda:N or mps")
    if (device.index or 0) >= counts[device.type]:
        raise ValueError(f"{option} is {name}, torch finds {counts[device.type]} devices of that kind here; give auto or cpu")
    return device


def keep_float32() -> None:
    """Disable TF32 in this process, so that embeddings on a GPU and on a CPU differ only by rounding."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def float32_kept() -> Iterator[None]:
    """Disable TF32 during the block; see `keep_float32`."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    keep_float32()
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
