"""Measure training on a GPU, one table: python -m tests.benchmarks.gpu (one H100 or H200 and 16 cores, about 15 minutes)

steps: training steps of Lightning's loop from crops in page-locked memory, by batch size. The input of ViT-S are crops of 10 s at a hop
of 20 ms, 504 tokens of which 30 % are kept; that of the CNN two crops of 2.08 s. After a warm-up, which compiles, steps are timed by wall
time; then some steps are traced, and in some the host's waits are counted:
- MFU: floating point operations of matrix products, convolutions and attention of one step, forward and backward, as
  torch.utils.flop_counter counts them in the eager module (without the similarity matrix of the loss), divided by the time of a step and
  the dense bfloat16 peak of the card. Nothing is sparse or counted twice.
- device waits: 1 - time in which at least one kernel runs in a traced step / time of an untraced step; copies are not kernels.
- host waits: how often torch.cuda.set_sync_debug_mode reports that the host waits for the device in four steps; it should be 0.
loss: NT-Xent of 16,384 clips, forward and backward, in one piece and in chunks; memory is in addition to the input.
data: fit.py on shards of 30 s clips, FLAC and 16-bit PCM, with all cores but one decoding; device waits are those of the traced steps.
`--parts` selects some of the three, `--batches` some of the batch sizes. `--device cpu` runs everything in miniature, to test the
script; its numbers have no meaning.
"""

from __future__ import annotations

import argparse
import io
import itertools
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch

from hear_ssl.data.packing.shard_writer import EncodedClip, write_shard
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, write_index
from hear_ssl.errors import run_main
from hear_ssl.objectives.nt_xent import nt_xent
from hear_ssl.synthesis.instruments import Corpus
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import Config, load_config
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.speed import choose, usable_cores
from hear_ssl.training.trainer import apply, fit, machine
from tests.benchmarks.cpu import KEEP
from tests.benchmarks.gpu_meter import Device, Meter, Resident, chosen_device, flops_of_clip

VIT = ["encoder={vit: {dim: 384, heads: 6, depth: 12}}"]
LONG = [KEEP, "frontend.hop_length=320", "data.crops.0.seconds=10", "data.crops.0.count=1"]
ENCODERS = {"ViT-S, 10 s, 30 % of 504 tokens": [*VIT, *LONG], "AudioNTT, 2 x 2.08 s": []}
PEAKS = {"H100 PCIe": 756.0, "H100": 989.4, "H200": 989.4}  # dense bfloat16 TFLOP/s, the vendor's data sheets
PARTS = ("steps", "loss", "data")
RATE = 16000


@dataclass(frozen=True)
class Size:
    """The size of the benchmark: batches of the two encoders, which of them from shards, steps, loss and corpus."""

    batches: tuple[tuple[int, ...], ...]
    data_batches: tuple[int, ...]
    steps: int
    data_steps: int
    pairs: int
    chunk: int
    clips: int
    overrides: tuple[str, ...] = ()
    small_encoders: bool = False


LARGE = Size(((128, 256, 512, 1024, 2048), (256, 1024, 4096, 8192)), (512, 1024), 30, 200, 16384, 1024, 512)
SMALL = {"vit": "encoder={vit: {dim: 32, heads: 2, depth: 1}}", "audio_ntt": "encoder={audio_ntt: {channels: 4, dim: 32}}"}
TINY = Size(((2,), (4,)), (2, 4), 2, 4, 16, 8, 4, ("data.crops.0.seconds=1",), True)


@dataclass(frozen=True)
class Row:
    """A row of the table; values that were not measured are None."""

    name: str
    batch: int
    rate: float | None = None
    seconds: float | None = None
    mfu: float | None = None
    idle: float | None = None
    waits: int | None = None
    memory: float | None = None
    note: str = ""

    def line(self) -> str:
        """Return the line in Markdown."""
        forms = ((self.rate, "{:,.0f}"), (self.mfu, "{:.1%}"), (self.idle, "{:.1%}"), (self.waits, "{}"))
        rate, mfu, idle, waits = ("" if value is None else form.format(value) for value, form in forms)
        taken = "" if self.seconds is None else f"{1000 * self.seconds:.1f}"
        memory = "" if self.memory is None else f"{self.memory / 1e9:.2f}"
        return f"| {' | '.join((self.name, str(self.batch), rate, taken, mfu, idle, waits, memory, self.note))} |"


@dataclass(frozen=True)
class Bench:
    """The device, the size of the benchmark, and the card's dense bfloat16 peak in TFLOP/s if it is known."""

    device: Device
    size: Size
    peak: float | None

    def config(self, encoder: str, batch: int, *overrides: str) -> Config:
        """Return the config of a run."""
        accelerator = "gpu" if self.device.cuda else "cpu"
        common = [
            "objective.nt_xent.weight=1",
            "performance=auto",
            f"trainer.accelerator={accelerator}",
            "trainer.collapse_rank=0",
            "wandb=disabled",
        ]
        small = [SMALL["vit" if encoder.startswith("ViT") else "audio_ntt"]] if self.size.small_encoders else []
        return load_config(None, [*common, *ENCODERS[encoder], *small, f"data.batch_size={batch}", *self.size.overrides, *overrides])


def steps_row(bench: Bench, encoder: str, batch: int) -> tuple[Row, float]:
    """Measure training steps from data in memory; return the row and the busy seconds of the device per step."""
    config = bench.config(encoder, batch)
    torch._dynamo.reset()
    bench.device.fresh_memory()
    module, meter = PretrainingModule(config), Meter(bench.device, bench.size.steps)
    choices = choose(config, machine(config.trainer))
    apply(choices, module)
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        max_steps=meter.last,
        precision="bf16-mixed" if choices.precision == "bf16" else "32-true",
        logger=False,
        callbacks=[meter],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, Resident(config, bench.device))
    except torch.cuda.OutOfMemoryError:
        return Row(encoder, batch, note="out of memory"), 0.0
    memory, seconds = bench.device.peak_memory(), meter.seconds
    operations = flops_of_clip(config, bench.device)
    teraflops = batch * operations / seconds / 1e12
    mfu = teraflops / bench.peak if bench.peak else None
    idle = max(0.0, 1.0 - meter.busy / seconds)
    note = f"{operations / 1e9:.3g} GFLOP a clip, {teraflops:.3g} TFLOP/s"
    return Row(encoder, batch, batch / seconds, seconds, mfu, idle, meter.waits, memory, note), meter.busy


def loss_row(bench: Bench, chunk: int) -> Row:
    """Measure NT-Xent forward and backward: the median of three repeats after a first one."""
    z_a, z_b = (torch.randn(bench.size.pairs, 256, device=bench.device.name, requires_grad=True) for _ in range(2))
    taken = []
    before = bench.device.fresh_memory()
    for _ in range(4):
        z_a.grad = z_b.grad = None
        bench.device.wait()
        began = time.perf_counter()
        nt_xent(z_a, z_b, 0.1, chunk).backward()  # type: ignore[no-untyped-call]
        bench.device.wait()
        taken.append(time.perf_counter() - began)
    peak = bench.device.peak_memory()
    name = f"NT-Xent in chunks of {chunk} rows" if chunk else "NT-Xent in one piece"
    return Row(name, bench.size.pairs, seconds=statistics.median(taken[1:]), memory=None if peak is None else peak - before)


def write_shards(folder: Path, codec: str, clips: int) -> None:
    """Write shards of 30 s clips of concatenated synthetic sounds."""
    corpus, number, encoded = Corpus(0), itertools.count(), []
    for clip in range(clips):
        sounds: list[Any] = []
        while sum(map(len, sounds)) < 30 * RATE:
            sounds += corpus.render(next(number))
        content = io.BytesIO()
        soundfile.write(content, np.concatenate(sounds)[: 30 * RATE], RATE, format=codec.upper(), subtype="PCM_16")
        encoded.append(EncodedClip(f"clip{clip:06d}", codec, content.getvalue(), {"seconds": 30.0, "license": "CC0-1.0"}))
    folder.mkdir()
    firsts = range(0, clips, 64)
    records = [write_shard(folder / f"train-{shard:06d}.tar", encoded[first : first + 64]) for shard, first in enumerate(firsts)]
    hours = clips * 30.0 / 3600.0
    source = SourceRecord("synthetic", "CC0-1.0", hours, clips)
    write_index(folder, ShardIndex(RATE, codec, "train", hours, clips, tuple(records), (source,), {}))


def data_row(bench: Bench, encoder: str, batch: int, shards: Path, from_memory: tuple[Row, float]) -> Row:
    """Measure fit.py on shards, from its second report to the last; from_memory: the same with data in memory."""
    workers, every = usable_cores() - 1 if bench.device.cuda else 0, bench.size.data_steps // 4
    run = shards.parent / f"{shards.name}-{list(ENCODERS).index(encoder)}"
    options = [f"data.workers={workers}", f"data.shards={shards}", f"run={run}", f"trainer.steps={bench.size.data_steps}"]
    config = bench.config(encoder, batch, *options, f"trainer.log_every={every}", f"trainer.checkpoint_every={2 * every}")
    torch._dynamo.reset()
    bench.device.fresh_memory()
    fit(config, resume=False)
    rows = [{name: float(value) for name, value in row.items()} for row in read_metrics(run / "metrics.csv")[1]]
    rows = [row for row in rows if row["step"] >= every]
    seconds = (rows[-1]["seconds"] - rows[0]["seconds"]) / (rows[-1]["step"] - rows[0]["step"])
    shares = [f"{name} {statistics.fmean(row[f'{name}_share'] for row in rows[1:]):.1%}" for name in ("data_wait", "logging", "checkpoint")]
    bare, busy = from_memory
    ratio = f", {bare.seconds / seconds:.2f} of the rate from memory" if bare.seconds else ""
    idle = max(0.0, 1.0 - busy / seconds) if busy else None
    codec, note = {"flac": "FLAC", "wav": "PCM"}[shards.name], f"{workers} workers, {', '.join(shares)}{ratio}"
    return Row(f"{encoder}, {codec}", batch, batch / seconds, seconds, None, idle, None, bench.device.peak_memory(), note)


def measure(bench: Bench, parts: list[str]) -> Iterator[Row]:
    """Measure and yield the rows of the parts."""
    resident: dict[tuple[str, int], tuple[Row, float]] = {}
    for encoder, batches in zip(ENCODERS, bench.size.batches, strict=True):
        for batch in batches if "steps" in parts else ():
            resident[encoder, batch] = steps_row(bench, encoder, batch)
            yield resident[encoder, batch][0]
    if "loss" in parts:
        yield from map(partial(loss_row, bench), (0, bench.size.chunk))
    if "data" not in parts:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for codec in ("flac", "wav"):
            write_shards(Path(scratch) / codec, codec, bench.size.clips)
        for encoder, batch in zip(ENCODERS, bench.size.data_batches, strict=True):
            from_memory = resident.get((encoder, batch)) or steps_row(bench, encoder, batch)
            for codec in ("flac", "wav"):
                yield data_row(bench, encoder, batch, Path(scratch) / codec, from_memory)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table. Raises ValueError without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak of the card, where it is neither an H100 nor an H200")
    parser.add_argument("--batches", nargs="+", type=int, help="batch sizes of steps to measure (default: all)")
    given = parser.parse_args(arguments)
    device = chosen_device(given.device, "gpu.py")
    card = torch.cuda.get_device_name() if device.cuda else "cpu, in miniature: its numbers have no meaning"
    peak = given.peak_tflops or next((value for name, value in PEAKS.items() if name in card), None)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    print(f"{card}, peak {peak or 'unknown'} TFLOP/s, {usable_cores()} cores, torch {torch.__version__}")
    rows = []
    size = LARGE if device.cuda else TINY
    if given.batches:
        known = sorted({batch for batches in size.batches for batch in batches})
        unknown = [batch for batch in given.batches if batch not in known]
        if unknown:
            raise ValueError(f"--batches {unknown[0]} is not measured; choose from {', '.join(map(str, known))}")
        size = replace(size, batches=tuple(tuple(batch for batch in batches if batch in given.batches) for batches in size.batches))
    for row in measure(Bench(device, size, peak), given.parts):
        rows.append(row.line())
        print(rows[-1], file=sys.stderr, flush=True)  # so that an interrupted run leaves its results
    head = ("", "batch", "clips/s", "ms", "MFU", "device waits", "host waits", "memory, GB", "")
    print("\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]))


if __name__ == "__main__":
    run_main(main)
