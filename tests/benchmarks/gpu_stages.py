"""GPU time of a training step by part of the model: python -m tests.benchmarks.gpu_stages

A few steps are traced with torch.profiler. A kernel is attributed to the innermost part of the model that launched it; a kernel of the
backward pass is attributed to the part that launched the forward operation with the same sequence number. There are two tables: without
torch.compile, by parts of the encoder, and compiled as in training, with the encoder as one part. Columns: milliseconds per step in the
forward and in the backward pass, and their share of the step's wall time. The last rows are the time in which no kernel ran, and the
step timed without tracing. Kernels that overlap are counted twice.
`--device cpu` runs the script with small sizes and the time of operations instead of kernels, to test it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from hear_ssl.errors import run_main
from hear_ssl.model.encoders.vit import ViT
from hear_ssl.training.config import Config
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.speed import choose, usable_cores
from hear_ssl.training.step_timer import StepTimer
from hear_ssl.training.trainer import apply, machine
from tests.benchmarks.gpu import ENCODERS, LARGE, TINY, Bench
from tests.benchmarks.gpu_meter import Device, Resident, chosen_device

MARK = "part: "
BACKWARD = "autograd::engine::evaluate_function"
STAGES = {"views": "views", "features": "features", "forward": "encoder", "loss": "objective"}
WARM, TIMED, TRACED = 5, 20, 3  # steps
Times = dict[str, list[float]]  # seconds of all traced steps in the forward and the backward pass, by part


class MarkingTimer(StepTimer):
    """Marks the stages of a step in the trace."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Mark the block as a part."""
        with record_function(MARK + STAGES[name]):
            yield


def parts_of(encoder: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of an encoder with their names: of a ViT those of its blocks, else all modules without children, by class."""
    if not isinstance(encoder, ViT):
        yield from ((type(leaf).__name__, leaf) for leaf in encoder.modules() if not list(leaf.children()))
        return
    yield "patch embedding", encoder.embed
    for name, module in encoder.named_modules():
        if name.endswith(".attention"):
            yield "attention", module
        elif name.endswith(".mlp"):
            yield "MLP", module
        elif isinstance(module, nn.LayerNorm):
            yield "LayerNorm", module


def mark(name: str, module: nn.Module) -> None:
    """Mark what a module computes as a part in the trace."""
    entered: list[Any] = []

    def enter(*_: Any) -> None:
        entered.append(record_function(MARK + name))
        entered[-1].__enter__()

    def leave(*_: Any) -> None:
        entered.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yield an event and what it was called from, the innermost first."""
    place: FunctionEvent | None = event
    while place is not None:
        yield place
        place = place.cpu_parent


def part_of(event: FunctionEvent, forward: dict[int, str]) -> tuple[str, bool]:
    """Return the part that an operation belongs to, and whether it is of the backward pass; forward: parts by sequence number."""
    for place in ancestors(event):
        if place.name.startswith(MARK):
            return place.name[len(MARK) :], False
        if place.name.startswith(BACKWARD):
            return forward.get(place.sequence_nr, "other"), True
        if place.name.startswith("Optimizer."):
            return "optimizer", False
    return "other", False


def times_of(events: list[FunctionEvent], device: Device) -> Times:
    """Return the seconds of the parts: of the kernels that operations launched, or on a CPU of the operations themselves."""
    calls = [event for event in events if event.device_type.name == "CPU" and not event.name.startswith(MARK)]
    forward: dict[int, str] = {}
    for event in sorted(calls, key=lambda event: float(event.time_range.start)):
        if event.sequence_nr >= 0 and not part_of(event, {})[1]:
            forward[event.sequence_nr] = part_of(event, {})[0]  # the last of a number is the one with a gradient
    spent: Times = defaultdict(lambda: [0.0, 0.0])
    for event in calls:
        taken = sum(kernel.duration for kernel in event.kernels) if device.cuda else event.self_cpu_time_total
        if taken:
            name, backward = part_of(event, forward)
            spent[name][backward] += taken / 1e6
    return spent


class Steps:
    """Training steps without Lightning, with batches in memory."""

    def __init__(self, config: Config, device: Device) -> None:
        """Build the module as training does, compiled or with its parts marked."""
        self.device = device
        self.module = PretrainingModule(config).train().to(device.name)
        choices = choose(config, machine(config.trainer))
        self.bf16 = choices.precision == "bf16"
        apply(choices, self.module)
        if not choices.compile:
            for name, part in parts_of(self.module.embedder.encoder):
                mark(name, part)
        self.module.step_timer = MarkingTimer()
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.resident = Resident(config, device)

    def run(self, count: int) -> float:
        """Run training steps and return the seconds per step."""
        self.device.wait()
        began = time.perf_counter()
        for number in range(count):
            batch = self.resident.copier(self.resident.batches[number % 3], torch.device(self.device.name))
            with torch.autocast(self.device.name, torch.bfloat16, enabled=self.bf16):
                loss = self.module.training_step(batch, number)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.device.wait()
        return (time.perf_counter() - began) / count


def table(config: Config, device: Device) -> list[str]:
    """Return the lines of the table of one config."""
    steps = Steps(config, device)
    steps.run(WARM)
    seconds = steps.run(TIMED if device.cuda else 2)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.cuda else [])]
    with profile(activities=kinds, acc_events=True) as tracer:
        steps.run(TRACED)
    events = list(tracer.events() or ())
    spent = times_of(events, device)

    def line(name: str, forward: float, backward: float) -> str:
        share = (forward + backward) / seconds
        return f"| {name} | {1000 * forward:.2f} | {1000 * backward:.2f} | {share:.1%} |"

    rows = [(name, forward / TRACED, backward / TRACED) for name, (forward, backward) in spent.items()]
    lines = [line(*row) for row in sorted(rows, key=lambda row: -row[1] - row[2])]
    return [*lines, *([line("no kernel", seconds - device.busy(events) / TRACED, 0.0)] if device.cuda else []), line("step", seconds, 0.0)]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the tables. Raises ValueError without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, default=256, help="clips per step (default: 256; on a CPU 4)")
    parser.add_argument("--encoders", nargs="+", type=int, choices=range(len(ENCODERS)), default=[0], help=f"of {list(ENCODERS)}")
    given = parser.parse_args(arguments)
    device = chosen_device(given.device, "gpu_stages")
    bench = Bench(device, LARGE if device.cuda else TINY, None)
    card = torch.cuda.get_device_name() if device.cuda else "cpu, small sizes"
    print(f"{card}, {usable_cores()} cores, torch {torch.__version__}")
    for encoder in (list(ENCODERS)[place] for place in given.encoders):
        for compiled in (False, True):
            torch._dynamo.reset()
            batch = given.batch if device.cuda else 4
            print(f"\n{encoder}, batch {batch}, {'compiled' if compiled else 'not compiled'}\n")
            print("| part | forward, ms | backward, ms | share of the step |\n|---|---|---|---|", flush=True)
            print("\n".join(table(bench.config(encoder, batch, f"speed.compile={str(compiled).lower()}"), device)), flush=True)


if __name__ == "__main__":
    run_main(main)
