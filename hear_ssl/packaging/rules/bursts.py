"""Check that timestamps match the content: locate short bursts in faint noise by the embeddings."""

from __future__ import annotations

from typing import Tuple

import torch

from .rows import RuleResult, Submission, found

BURSTS = 16
FLOOR = 1e-4  # amplitude of the noise between bursts; digital silence has a separate check
SEEN = 0.1  # a burst counts when it changes embeddings by this share of the strongest change
DRIFT_LIMIT_MS = 2.0  # in 175 s: 14 ms in 20 minutes, a quarter of the tolerance of transcription tasks


def burst_offsets(submission: Submission, first_hops: float, seconds: float) -> Tuple[float, int, float]:
    """Return the mean delay in ms of 16 bursts of 5 ms, about a second apart, the number of detected bursts, and the hop in ms.

    The bursts are distributed evenly over the phases of the hop, so that the grid of timestamps cancels out. The first burst is after
    first_hops hops. The position of a burst is the centre of the change in the embeddings, weighted by the strength of the change.
    """
    rate = submission.model.sample_rate
    audio = submission.noise(seconds, seed=99) * FLOOR
    base, times = submission.timestamps(audio)
    times_ms = times.reshape(-1).cpu().double()
    hop = float((times_ms[-1] - times_ms[0]) / (len(times_ms) - 1))
    spacing = (round(1000.0 / hop) + 1.0 / BURSTS) * hop
    length, centres = int(0.005 * rate), []
    for number in range(BURSTS):
        start = round((first_hops * hop + spacing * number - 2.5) * rate / 1000.0)
        audio[0, start : start + length] = submission.noise(1.0, seed=number)[0, :length]
        centres.append((start + length / 2.0) * 1000.0 / rate)
    change = (submission.timestamps(audio)[0] - base).reshape(len(times_ms), -1).cpu().double().norm(dim=-1)
    offsets = []
    for centre in centres:
        near = torch.where((times_ms - centre).abs() <= spacing / 2.0, change, torch.zeros_like(change))
        near = torch.where(near > 0.3 * near.max(), near, torch.zeros_like(near))
        if float(near.max()) > SEEN * float(change.max()):
            offsets.append(float((near * times_ms).sum() / near.sum()) - centre)
    return sum(offsets) / max(len(offsets), 1), len(offsets), hop


def bursts_lie_at_their_timestamps(submission: Submission) -> RuleResult:
    """A 5 ms burst changes the embeddings around its own time: within half a hop or 25 ms, whichever is less.

    An error of 50 ms reduces the onset score of a perfect detector from 1 to 0.82, and an error of 80 ms to 0.12. With a hop of more
    than 50 ms some bursts are between the frames; otherwise twelve of sixteen must be detected.
    """
    mean, seen, hop = burst_offsets(submission, first_hops=round(1500.0 / _hop(submission)), seconds=18.5)
    limit = min(hop / 2.0, 25.0)
    text = f"{mean:+.2f} ms on average over {seen} of {BURSTS} bursts (limit {limit:g} ms)"
    return found(text, abs(mean) <= limit and seen >= (12 if hop <= 50.0 else 1))


def late_bursts_lie_at_their_timestamps(submission: Submission) -> RuleResult:
    """After three minutes bursts have the same delay as in the first seconds, within 2 ms: a rounded hop would shift them more and more."""
    hop = _hop(submission)
    early, _, _ = burst_offsets(submission, first_hops=round(1500.0 / hop), seconds=18.5)
    late, seen, _ = burst_offsets(submission, first_hops=round(175000.0 / hop), seconds=192.0)
    return found(f"{late - early:+.2f} ms from 175 s on, over {seen} bursts", abs(late - early) <= DRIFT_LIMIT_MS and seen > 0)


def _hop(submission: Submission) -> float:
    times_ms = submission.timestamps(submission.noise(4.0))[1].reshape(-1).cpu().double()
    return float((times_ms[-1] - times_ms[0]) / (len(times_ms) - 1))
