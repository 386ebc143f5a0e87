"""The batches that the loader gives to the training step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class UnreadableClip(NamedTuple):
    """An unreadable clip: the shard's address, the clip's key (or its number in the shard if the key is unreadable), and the reason."""

    shard: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}/{self.key}: {self.reason}"


@dataclass
class Batch:
    """One rank's rows of a global batch.

    waveforms: for each length the crops (batch, crops, time), float32.
    seeds: (batch,) int64, a hash of (seed, pass, clip), the seeds of the views.
    keys: the clips' keys.
    lost: unreadable clips, which were replaced.
    seconds: time of reading and decoding.
    readers, streamed: for shards without an index, see unindexed_stream.py.
    """

    waveforms: list[Tensor]
    seeds: Tensor
    keys: list[str]
    lost: list[UnreadableClip] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    readers: dict[int, Any] = field(default_factory=dict)
    streamed: dict[int, tuple[int, float]] = field(default_factory=dict)

    @property
    def waveform(self) -> Tensor:
        """The crops of the first length (batch, crops, time)."""
        return self.waveforms[0]

    def crops(self) -> list[Tensor]:
        """Return all crops, each (batch, time), in the order of their numbers."""
        return [crop for waveform in self.waveforms for crop in waveform.unbind(1)]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its tensors on the device."""
        *waveforms, seeds = (tensor.to(device, non_blocking=non_blocking) for tensor in (*self.waveforms, self.seeds))
        return replace(self, waveforms=waveforms, seeds=seeds)

    def pin_memory(self) -> Batch:
        """Return the batch with its tensors in page-locked memory."""
        return replace(self, waveforms=[waveform.pin_memory() for waveform in self.waveforms], seeds=self.seeds.pin_memory())


class Copier:
    """Copy batches to a device; to a GPU on a separate CUDA stream, while the GPU computes a step.

    The host does not wait for the copy of a page-locked batch; the step that uses the batch is queued after its copy.
    """

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, batch: Batch, device: torch.device) -> Batch:
        """Return the batch with its tensors on the device."""
        if device.type != "cuda":
            return batch.to(device)
        self.stream = self.stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self.stream):
            copied = batch.to(device, non_blocking=True)
        present = torch.cuda.current_stream(device)
        present.wait_stream(self.stream)
        for tensor in (*copied.waveforms, copied.seeds):
            tensor.record_stream(present)  # its memory must not be reused before the step has finished
        return copied
