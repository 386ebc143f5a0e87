"""Throughput of a run: model FLOP utilisation (MFU) and hours of audio a second.

MFU is the number of operations of a step, forward and backward, divided by the time of the step and the peak of the device (Chowdhery
et al., PaLM, 2022, appendix B, https://arxiv.org/abs/2204.02311). Operations are those of matrix products, convolutions and attention
in encoder, teacher and objective, counted once by torch's FLOP counter. Augmentations, features and the recomputation by
`trainer.encode_rows` do not count. They are counted on fake tensors, which have shapes but no values
(https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html).
The peak of a GPU is that of its data sheet, from Lightning's table, or that of a measured matrix product if it is higher or the table
has no entry. The peak of a CPU is always measured, with the threads and the precision of the run.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from lightning_fabric.utilities.throughput import get_available_flops  # part of pytorch-lightning
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from hear_ssl.errors import one_line
from hear_ssl.progress import warn
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.settings import Config

CPU_SIZE, GPU_SIZE = 1024, 8192  # rows and columns of the matrices
REPEATS = 4  # the fastest counts
UNCOUNTED = (RuntimeError, NotImplementedError, ValueError, TypeError)  # raised by a user's class that needs values


@dataclass(frozen=True)
class Throughput:
    """Convert steps per second to MFU and hours of audio.

    operations: of a step in this process, 0 when they could not be counted. peak: of its device, in operations per second.
    audio_seconds: of the crops of all clips of a step, over all processes.
    """

    operations: float
    peak: float
    audio_seconds: float

    def columns(self, steps_per_second: float) -> dict[str, float]:
        """Return the columns of metrics.csv: audio_hours_per_second, and mfu as a share if operations were counted."""
        hours = {"audio_hours_per_second": steps_per_second * self.audio_seconds / 3600.0}
        return {**hours, "mfu": steps_per_second * self.operations / self.peak} if self.operations and self.peak else hours


def audio_seconds(config: Config) -> float:
    """Return the seconds of audio in the crops of a batch."""
    return config.data.batch_size * sum(crops.count * crops.seconds for crops in config.data.crops)


class Step(nn.Module):
    """A training step from the features of the views to the loss, with all rows at once."""

    def __init__(self, module: PretrainingModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: list[Tensor], kept: list[Tensor | None], pitch_shift: Tensor | None) -> Tensor:
        """Return the loss of features (batch, n_mels, frames) of each view."""
        loss: Tensor = self.module.objective(self.module.encode(features, kept, pitch_shift, rows=0))
        return loss


def step_operations(module: PretrainingModule, rows: int) -> float:
    """Return the operations of a step with `rows` clips in this process, without changing the module.

    Raises what a user's class raises when it cannot run without values.
    """
    config, stride = module.config, module.embedder.encoder.time_stride
    samples = [round(crops.seconds * config.frontend.sample_rate) for crops in config.data.crops for _ in range(crops.count)]
    steps = [module.embedder.frontend.token_count(samples[crop]) for crop in module.views.crops]
    kept = module.views.kept(torch.zeros(rows, dtype=torch.int64), steps)
    shifted = "pitch_shift" in module.objective.required
    lengths = [*steps, *steps[:1]] if shifted else steps
    fake = FakeTensorMode()
    tensors = {f"module.{name}": tensor for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    with fake:
        features = [torch.empty(rows, config.frontend.n_mels, length * stride) for length in lengths]
        shift = torch.empty(rows) if shifted else None
    state = {name: fake.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad) for name, tensor in tensors.items()}
    arguments = (features, [None if some is None else fake.from_tensor(some) for some in kept], shift)
    training = module.training
    try:
        with torch.random.fork_rng(devices=[]), fake, FlopCounterMode(display=False) as counter:
            loss: Tensor = functional_call(Step(module.train()), state, arguments)
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        module.train(training)
    return float(counter.get_total_flops())


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a product of large matrices, the fastest of several."""
    size, fastest = GPU_SIZE if device.type == "cuda" else CPU_SIZE, math.inf
    matrix = torch.full((size, size), 0.5, dtype=dtype, device=device)
    for _ in range(REPEATS):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        fastest = min(fastest, time.perf_counter() - start)
    del matrix
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return 2.0 * size**3 / fastest


def peak_of(device: torch.device, precision: str) -> float:
    """Return the peak of a device in operations per second, for the precision 32 or bf16."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    stated = get_available_flops(device, dtype) if device.type == "cuda" else None
    return max(float(stated or 0), measured_peak(device, dtype))


def count_operations(module: PretrainingModule, rows: int) -> float:
    """Return the operations of a step, or 0 with a warning when they cannot be counted with a user's class."""
    try:
        return step_operations(module, rows)
    except UNCOUNTED as error:
        warn(f"no MFU: the operations of a step cannot be counted ({one_line(error)[:200]})")
        return 0.0
