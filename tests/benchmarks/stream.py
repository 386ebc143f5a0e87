"""Measure clips per second of the stream, with and without an index, of decoding alone and of webdataset, on the same shards.

python -m tests.benchmarks.stream SHARDS [--crop-seconds 2.5] [--batches 20] [--rounds 5]

decoding alone: soundfile seek and read of one crop from bytes in memory, one process. ours: batches of 64 delivered to
this process. without an index: the same from a folder of links to the shards, which has no index.json. webdataset: its
WebDataset with a shuffle buffer of 1,000, soundfile in .map, .batched(64), its WebLoader.
Variants are measured alternately in each round. The output is the median of the rounds and their range, per wall time and per CPU time of
all processes, which is more reliable on a busy machine.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import webdataset

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.stream.sample_order import hash_integers
from hear_ssl.machine import keep_memory
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.stream_datamodule import data_module

BATCH = 64
RATE = 16000


def bare(clips: list[bytes], time_samples: int) -> Iterator[int]:
    """Decode one crop of each clip, repeatedly; yield after every batch."""
    number = 0
    while True:
        for _ in range(BATCH):
            with soundfile.SoundFile(io.BytesIO(clips[number % len(clips)])) as file:
                spare = max(0, file.frames - time_samples)
                file.seek(int(hash_integers(number) / 2**63 * (spare + 1)))
                file.read(time_samples, dtype="float32")
            number += 1
        yield BATCH


def ours(shards: str, crop_seconds: float, workers: int) -> Iterator[int]:
    """Deliver batches of one crop per clip."""
    config = DataConfig(shards=[shards], batch_size=BATCH, crops=[CropConfig(crop_seconds, 1)], workers=workers)
    for batch in data_module(config, RATE, 0).train_dataloader():
        yield len(batch.waveform)


def without_index(shards: str, folder: str) -> str:
    """Fill a folder with links to the shards, without the index, and return it."""
    for path in Path(shards).glob("*.tar"):
        (Path(folder) / path.name).symlink_to(path.resolve())
    return folder


def crop_of(sample: dict[str, Any], time_samples: int) -> Any:
    """Decode one crop of a sample, as a training script with webdataset would."""
    with soundfile.SoundFile(io.BytesIO(sample["flac"])) as file:
        spare = max(0, file.frames - time_samples)
        file.seek(np.random.randint(spare + 1))
        crop = file.read(time_samples, dtype="float32")
    return (np.pad(crop, (0, time_samples - len(crop))),)


def plain(shards: str, time_samples: int, workers: int) -> Iterator[int]:
    """Deliver batches as in webdataset's documentation."""
    urls = sorted(str(path) for path in Path(shards).glob("*.tar"))
    dataset = webdataset.WebDataset(urls, resampled=True, shardshuffle=False, nodesplitter=webdataset.split_by_worker).shuffle(1000)
    dataset = dataset.map(partial(crop_of, time_samples=time_samples)).batched(BATCH)
    for batch in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield len(batch[0])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--crop-seconds", type=float, default=2.5)
    parser.add_argument("--batches", type=int, default=20, help="batches of every kind in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as training does
    samples = round(arguments.crop_seconds * RATE)
    data = ShardDataModule(DataConfig(shards=[arguments.shards], batch_size=BATCH, workers=0), RATE, 0)
    generator = np.random.default_rng(0)
    clips = [data.shards.audio(data.shards.clip(int(number))) for number in generator.choice(len(data.shards), 2000, replace=False)]
    with tempfile.TemporaryDirectory() as folder:
        bare_shards = without_index(arguments.shards, folder)
        kinds: dict[str, Callable[[], Iterator[int]]] = {"decoding alone, 1 process": partial(bare, clips, samples)}
        for workers in (0, 1, 2):
            kinds[f"ours, {workers} workers"] = partial(ours, arguments.shards, arguments.crop_seconds, workers)
            kinds[f"ours without an index, {workers} workers"] = partial(ours, bare_shards, arguments.crop_seconds, workers)
            kinds[f"webdataset, {workers} workers"] = partial(plain, arguments.shards, samples, workers)
        print_table(measured(kinds, arguments.rounds, arguments.batches))


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers so far."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        with suppress(OSError):
            times = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measured(kinds: dict[str, Callable[[], Iterator[int]]], rounds: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Return the clips per second of each kind in each round, and those per CPU-second."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, start in kinds.items():
            batches = start()
            for _ in range(8):  # workers started, tables read, prefetched batches taken
                next(batches)
            begin, worked = time.perf_counter(), cpu_seconds()
            clips = sum(next(batches) for _ in range(count))
            rates[name].append((clips / (time.perf_counter() - begin), clips / (cpu_seconds() - worked)))
            del batches
    return rates


def print_table(rates: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians and ranges, and medians over the rounds of the ratios to decoding alone, webdataset and our path with an index."""
    head = "relative to decoding | relative to webdataset | relative to ours with an index"
    for unit, title in enumerate(("clips/s", "clips per CPU-second of all processes")):
        print(f"| | {title}, median (range) | {head} |\n|---|---|---|---|---|")
        for name, pairs in rates.items():
            values = [pair[unit] for pair in pairs]
            kind, _, workers = name.partition(", ")
            rivals = ["decoding alone, 1 process"]
            rivals += [
                f"webdataset, {workers}" if kind.startswith("ours") else "",
                f"ours, {workers}" if kind == "ours without an index" else "",
            ]
            ratios = [
                f"{statistics.median(value / pair[unit] for value, pair in zip(values, rates[rival], strict=True)):.2f}" if rival else ""
                for rival in rivals
            ]
            rate = f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
            print(f"| {name} | {rate} | {' | '.join(ratios)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
