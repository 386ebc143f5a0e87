"""Tools of gpu.py: batches in memory, a callback that times and traces steps, and the number of operations of a step."""

from __future__ import annotations

import gc
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from hear_ssl.data.stream.batch import Batch, Copier
from hear_ssl.training.config import Config
from hear_ssl.training.module import PretrainingModule

WARM, TRACED, WATCHED = 5, 4, 4  # steps
COPIES = ("Memcpy", "Memset")
WAITED = "called a synchronizing CUDA operation"


@dataclass(frozen=True)
class Device:
    """cuda, or cpu to test the script."""

    name: str

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.name == "cuda"

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def fresh_memory(self) -> float:
        """Free the memory of earlier measurements, reset the peak, and return the bytes in use."""
        if not self.cuda:
            return 0.0
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())

    def peak_memory(self) -> float | None:
        """Return the highest bytes in use since `fresh_memory`."""
        return float(torch.cuda.max_memory_allocated()) if self.cuda else None

    def busy(self, events: Iterable[FunctionEvent]) -> float:
        """Return the seconds of a trace in which at least one kernel ran."""
        return union((event.time_range.start, event.time_range.end) for event in events if self.is_kernel(event)) / 1e6

    def is_kernel(self, event: FunctionEvent) -> bool:
        """Return whether an event is a computation of the device, neither a copy nor the mark of a range."""
        of_device = event.device_type.name == ("CUDA" if self.cuda else "CPU")
        return of_device and not event.is_user_annotation and not event.name.startswith(COPIES)


def chosen_device(name: str, script: str) -> Device:
    """Return the device of --device. Raises ValueError when a script needs a GPU and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{script} measures a CUDA device and finds none; --device cpu tries the script in miniature")
    return Device(name)


class Resident(pl.LightningDataModule):
    """Three batches in page-locked memory, repeated endlessly and copied as in training."""

    def __init__(self, config: Config, device: Device) -> None:
        super().__init__()
        rows, (crops,) = config.data.batch_size, config.data.crops
        samples = round(crops.seconds * config.frontend.sample_rate)
        whole = [Batch([torch.randn(rows, crops.count, samples) * 0.1], torch.arange(rows), []) for _ in range(3)]
        self.batches = [batch.pin_memory() for batch in whole] if device.cuda else whole
        self.copier = Copier()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return an endless loader of the batches."""
        batches = self.batches

        class Endless(IterableDataset[Batch]):
            def __iter__(self) -> Iterator[Batch]:
                return itertools.cycle(batches)

        return DataLoader(Endless(), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy as `ShardDataModule` does."""
        return self.copier(batch, device)


class Meter(pl.Callback):
    """Time steps after the warm-up, then trace some steps, then count in some steps how often the host waits.

    seconds: wall seconds per step. busy: seconds per step in which a kernel ran. waits: how often the host waited.
    """

    def __init__(self, device: Device, steps: int) -> None:
        self.device, self.steps = device, steps
        self.began = self.seconds = self.busy = 0.0
        self.waits = 0
        self.watch = warnings.catch_warnings(record=True)
        end = WARM + steps
        self.plan: dict[int, Callable[[], None]] = {WARM: self.start, end: self.stop, end + TRACED: self.trace}
        self.plan[end + TRACED + WATCHED] = self.count
        self.last = max(self.plan)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Run the action planned after this step."""
        self.plan.get(trainer.global_step, lambda: None)()

    def start(self) -> None:
        """Start timing."""
        self.device.wait()
        self.began = time.perf_counter()

    def stop(self) -> None:
        """Stop timing and start tracing."""
        self.device.wait()
        self.seconds = (time.perf_counter() - self.began) / self.steps
        self.tracer = profile(activities=[ProfilerActivity.CUDA if self.device.cuda else ProfilerActivity.CPU], acc_events=True)
        self.tracer.start()

    def trace(self) -> None:
        """Stop tracing and start counting waits."""
        self.device.wait()
        self.tracer.stop()
        self.busy = self.device.busy(self.tracer.events()) / TRACED  # type: ignore[no-untyped-call]
        self.seen = self.watch.__enter__()
        warnings.simplefilter("always")
        if self.device.cuda:
            torch.cuda.set_sync_debug_mode("warn")

    def count(self) -> None:
        """Stop counting waits."""
        if self.device.cuda:
            torch.cuda.set_sync_debug_mode("default")
        self.watch.__exit__(None, None, None)
        self.waits = sum(WAITED in str(warning.message) for warning in self.seen or ())


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the total length covered by intervals (start, end)."""
    covered, reached = 0.0, -float("inf")
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def flops_of_clip(config: Config, device: Device) -> float:
    """Return the floating point operations of a training step per clip, from an eager step with eight clips."""
    small = replace(config, data=replace(config.data, batch_size=8))
    module = PretrainingModule(small).train().to(device.name)
    batch = Copier()(Resident(small, device).batches[0], torch.device(device.name))
    with FlopCounterMode(display=False) as counter, torch.autocast(device.name, torch.bfloat16):
        module.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / 8
