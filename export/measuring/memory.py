"""Twenty minutes of audio: time and peak memory, weights and outputs included."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from .rows import Row, Subject, found

LIMIT_GB = 16.0
MINUTES = 20


def reset_peak() -> bool:
    """Start a new peak of resident memory; return whether this system can (Linux, proc(5): clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def peak_gb() -> float:
    """Return the peak resident memory since the last reset, in GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("no VmHWM in /proc/self/status")


def twenty_minutes(subject: Subject) -> Row:
    """20 minutes of audio stay under 16 GB, with weights and embeddings; timestamps and scene both."""
    audio = subject.noise(10.0).repeat(1, 6 * MINUTES)
    measurable = reset_peak()
    start = time.perf_counter()
    embeddings, timestamps_ms = subject.timestamps(audio)
    scene = subject.scene(audio)
    seconds = time.perf_counter() - start
    peak = peak_gb() if measurable else float("nan")
    passed = bool(torch.isfinite(embeddings).all() and torch.isfinite(scene).all()) and not peak > LIMIT_GB
    last = float(timestamps_ms[0, -1]) / 1000.0
    passed = passed and abs(last - MINUTES * 60) < 1.0
    speed = 2 * MINUTES * 60 / seconds
    return found(f"{seconds:.1f} s ({speed:.0f} times real time on {torch.get_num_threads()} threads), peak {peak:.2f} GB", passed)


def twenty_minutes_on_gpu(subject: Subject) -> Row:
    """On the GPU, 20 minutes stay under 16 GB and equal the CPU's result."""
    if not torch.cuda.is_available():
        return found("no GPU here: not measured", True)
    audio = subject.noise(10.0).repeat(1, 6 * MINUTES)
    expected = subject.scene(audio)
    torch.cuda.reset_peak_memory_stats()
    subject.model.cuda()
    found_scene = subject.scene(audio.cuda()).cpu()
    subject.timestamps(audio.cuda())
    peak = torch.cuda.max_memory_allocated() / 1e9
    subject.model.cpu()
    apart = float((found_scene - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
    return found(f"peak {peak:.2f} GB, {apart:.2g} from the CPU (relative)", peak <= LIMIT_GB and apart < 1e-2)


CHECKS = [twenty_minutes, twenty_minutes_on_gpu]
