"""Checks of timestamps: unit, order, spacing, edges, and whether content lies where they say."""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from .rows import Row, Subject, found

SPACING_TOLERANCE_MS = 0.1  # the float32 step at 20 minutes is 0.125 ms; a jitter of 0.9 ms passes the official validator
HOP_LIMIT_MS = 50.0
BURSTS = 16


def ticks(subject: Subject, seconds: float) -> Tensor:
    """Return the timestamps (n_timestamps,) of noise, float64 ms."""
    return subject.timestamps(subject.noise(seconds))[1][0].double().cpu()


def hop_of(times_ms: Tensor) -> float:
    """Return the mean step in ms."""
    return float((times_ms[-1] - times_ms[0]) / max(len(times_ms) - 1, 1))


def timestamps_regular(subject: Subject) -> Row:
    """Timestamps ascend at one interval and are the same for every sound of a batch."""
    times_ms = ticks(subject, 4.0)
    steps = times_ms.diff()
    if len(times_ms) < 3:
        return found(f"only {len(times_ms)} timestamps in 4 s", False)
    batch = subject.timestamps(subject.noise(4.0, 3))[1].double().cpu()
    same = bool((batch - batch[:1]).abs().max() == 0)
    worst = float((steps - hop_of(times_ms)).abs().max())
    passed = bool((steps > 0).all()) and worst <= SPACING_TOLERANCE_MS and same
    return found(f"{hop_of(times_ms):.4g} ms, worst step {worst:.3g} ms off{'' if same else ', differ within a batch'}", passed)


def timestamps_cover_clip(subject: Subject) -> Row:
    """In ms: none before 0 or past the end; the first and the last at most 50 ms (or a hop) from the edges."""
    findings, passed = [], True
    for seconds in (0.5, 1.98, 4.0):
        times_ms, end_ms = ticks(subject, seconds), 1000.0 * round(seconds * subject.model.sample_rate) / subject.model.sample_rate
        margin = max(HOP_LIMIT_MS, hop_of(times_ms)) + 0.1
        findings.append(f"{float(times_ms[0]):.4g} to {float(times_ms[-1]):.5g} of {end_ms:.5g}")
        inside = times_ms.min() >= 0 and times_ms.max() <= end_ms + 0.1
        passed = passed and bool(inside) and float(times_ms[0]) <= margin and float(times_ms[-1]) >= end_ms - margin
    return found("; ".join(findings) + " ms", passed)


def hop_at_most_50_ms(subject: Subject) -> Row:
    """The interval is at most 50 ms, as suggested for transcription tasks."""
    hop = hop_of(ticks(subject, 4.0))
    return found(f"{hop:.4g} ms", 0.0 < hop <= HOP_LIMIT_MS + 1e-3)


def timestamps_do_not_drift(subject: Subject) -> Row:
    """Over 3 minutes timestamps keep to the interval of the first seconds: no rounded hop that adds up."""
    short, long = ticks(subject, 4.0), ticks(subject, 180.0)
    ideal = long[0] + torch.arange(len(long), dtype=torch.float64) * hop_of(short)
    drift = float((long - ideal).abs().max())
    expected = round((180000.0 - float(long[0])) / hop_of(short))
    passed = drift <= 1.0 and abs(len(long) - expected) <= 2
    return found(f"at most {drift:.3g} ms off an even grid, {len(long)} timestamps in 180 s", passed)


def burst_offsets(subject: Subject, first_ms: float, seconds: float, spacing_ms: float) -> Tuple[List[float], float]:
    """Return by how many ms each of 16 bursts of 5 ms appears off its place, and the limit: half a hop or 25 ms.

    The bursts lie at every phase of the hop equally often, so that its own grid cancels out.
    """
    rate = subject.model.sample_rate
    silence = torch.zeros(1, round(seconds * rate))
    base, times = subject.timestamps(silence)
    times_ms = times[0].double().cpu()
    hop = hop_of(times_ms)
    spacing_ms = (round(spacing_ms / hop) + 1.0 / BURSTS) * hop
    audio = silence.clone()
    centres = [first_ms + spacing_ms * number for number in range(BURSTS)]
    length = int(0.005 * rate)
    for number, centre_ms in enumerate(centres):
        start = int((centre_ms - 2.5) * rate / 1000.0)
        audio[0, start : start + length] = subject.noise(1.0, seed=number)[0, :length]
    change = (subject.timestamps(audio)[0] - base)[0].double().norm(dim=-1).cpu()
    offsets = []
    for centre_ms in centres:
        near = torch.where((times_ms - centre_ms).abs() <= spacing_ms / 2.0, change, torch.zeros_like(change))
        near = torch.where(near > 0.3 * near.max(), near, torch.zeros_like(near))
        offsets.append(float((near * times_ms).sum() / near.sum().clamp_min(1e-12)) - centre_ms)
    return offsets, min(hop / 2.0, 25.0)


def bursts_lie_at_their_timestamps(subject: Subject) -> Row:
    """A 5 ms burst changes the embeddings around its own time: within half a hop or 25 ms, whichever is less."""
    offsets, limit = burst_offsets(subject, first_ms=1000.0, seconds=18.0, spacing_ms=1000.0)
    mean = sum(offsets) / len(offsets)
    return found(f"{mean:+.2f} ms on average over {len(offsets)} bursts (limit {limit:g} ms)", abs(mean) <= limit)


def late_bursts_lie_at_their_timestamps(subject: Subject) -> Row:
    """After three minutes too: a rounded hop shows itself by content that lies elsewhere."""
    offsets, limit = burst_offsets(subject, first_ms=175000.0, seconds=192.0, spacing_ms=1000.0)
    mean = sum(offsets) / len(offsets)
    return found(f"{mean:+.2f} ms on average over {len(offsets)} bursts from 175 s on (limit {limit:g} ms)", abs(mean) <= limit)


CHECKS = [
    timestamps_regular,
    timestamps_cover_clip,
    hop_at_most_50_ms,
    timestamps_do_not_drift,
    bursts_lie_at_their_timestamps,
    late_bursts_lie_at_their_timestamps,
]
