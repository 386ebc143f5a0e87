"""Check timestamps: unit, order, spacing and ends."""

from __future__ import annotations

import torch
from torch import Tensor

from . import bursts
from .independence import depends_on_input, no_state_between_calls, same_input_same_output
from .outputs import above_five_seconds, below_one_second, finite_on_sound
from .rows import Check, RuleResult, Submission, found

SPACING_TOLERANCE_MS = 0.1  # the float32 step at 20 minutes is 0.125 ms; a jitter of 0.9 ms passes the official validator
HOP_LIMIT_MS = 50.0
GRID_TOLERANCE_MS = 1.0  # float32 steps stay below 0.02 ms within 3 minutes; a hop rounded to 0.1 ms is off by 100 ms


def ticks(submission: Submission, seconds: float) -> Tensor:
    """Return the timestamps (n_timestamps,) of noise, float64 ms."""
    return submission.timestamps(submission.noise(seconds))[1].reshape(-1).cpu().double()


def hop_of(times_ms: Tensor) -> float:
    """Return the mean step in ms."""
    return float((times_ms[-1] - times_ms[0]) / max(len(times_ms) - 1, 1))


def duration_ms(submission: Submission, seconds: float) -> float:
    """Return the length in ms of the noise used for this number of seconds."""
    return submission.noise(seconds).shape[1] * 1000.0 / float(submission.model.sample_rate)


def several_timestamps(submission: Submission) -> RuleResult:
    """A clip of four seconds has at least three timestamps: one or two are not a grid."""
    count = len(ticks(submission, 4.0))
    return found(f"{count} in 4 s", count >= 3)


def timestamps_ascend(submission: Submission) -> RuleResult:
    """Each timestamp is later than the one before: events are made of runs of frames."""
    steps = ticks(submission, 4.0).diff()
    return found(f"steps of {float(steps.min()):.4g} to {float(steps.max()):.4g} ms", bool((steps > 0).all()))


def timestamps_in_milliseconds(submission: Submission) -> RuleResult:
    """Timestamps are in milliseconds: four seconds span about 4000.

    Seconds and samples are the most common mistakes and score 0 on event tasks; half to twice the length distinguishes them.
    """
    times_ms = ticks(submission, 4.0)
    span = float(times_ms[-1] - times_ms[0])
    return found(f"{float(times_ms[0]):.4g} to {float(times_ms[-1]):.5g} in 4 s", 1000.0 < abs(span) < 8000.0)


def timestamps_evenly_spaced(submission: Submission) -> RuleResult:
    """All steps are equal, to 0.1 ms."""
    times_ms = ticks(submission, 4.0)
    worst = float((times_ms.diff() - hop_of(times_ms)).abs().max())
    return found(f"{hop_of(times_ms):.4g} ms, worst step {worst:.3g} ms off", worst <= SPACING_TOLERANCE_MS)


def same_timestamps_in_a_batch(submission: Submission) -> RuleResult:
    """Every sound of a batch has the same timestamps: all have one length."""
    batch = submission.timestamps(submission.noise(4.0, 3))[1].cpu().double()
    apart = float((batch - batch[:1]).abs().max())
    return found(f"{apart:.3g} ms apart", apart == 0.0)


def no_timestamp_before_zero(submission: Submission) -> RuleResult:
    """No timestamp is before the clip."""
    first = min(float(ticks(submission, seconds).min()) for seconds in (1.07, 1.98, 4.0))
    return found(f"first at {first:.4g} ms", first >= 0.0)


def no_timestamp_past_the_end(submission: Submission) -> RuleResult:
    """No timestamp is after the end of the clip, within 0.1 ms."""
    past = max(float(ticks(submission, seconds).max()) - duration_ms(submission, seconds) for seconds in (0.13, 0.51, 1.07, 1.98, 4.0))
    return found(f"last {-past:.4g} ms before the end", past <= SPACING_TOLERANCE_MS)


def starts_at_the_start(submission: Submission) -> RuleResult:
    """The first timestamp is at most 50 ms, or a longer hop, from the start, so that no event there is missed."""
    times = [ticks(submission, seconds) for seconds in (1.07, 1.98, 4.0)]
    first, margin = max(float(times_ms[0]) for times_ms in times), max(HOP_LIMIT_MS, hop_of(times[-1])) + SPACING_TOLERANCE_MS
    return found(f"{first:.4g} ms", first <= margin)


def reaches_the_end(submission: Submission) -> RuleResult:
    """The last timestamp is at most 50 ms, or a longer hop, from the end, so that no event there is missed."""
    times = {seconds: ticks(submission, seconds) for seconds in (1.07, 1.98, 4.0)}
    missing = max(duration_ms(submission, seconds) - float(times_ms[-1]) for seconds, times_ms in times.items())
    margin = max(HOP_LIMIT_MS, hop_of(times[4.0])) + SPACING_TOLERANCE_MS
    return found(f"{missing:.4g} ms before it at most", missing <= margin)


def hop_at_most_50_ms(submission: Submission) -> RuleResult:
    """The interval is at most 50 ms, as suggested for transcription tasks, whose tolerance that is."""
    hop = hop_of(ticks(submission, 4.0))
    return found(f"{hop:.4g} ms", 0.0 < hop <= HOP_LIMIT_MS + 1e-3)


def timestamps_do_not_drift(submission: Submission) -> RuleResult:
    """Over 3 minutes timestamps have the interval of the first seconds, within 1 ms: rounding errors do not accumulate."""
    short, long = ticks(submission, 4.0), ticks(submission, 180.0)
    ideal = long[0] + torch.arange(len(long), dtype=torch.float64) * hop_of(short)
    drift = float((long - ideal).abs().max())
    return found(f"at most {drift:.3g} ms off an even grid", drift <= GRID_TOLERANCE_MS)


ORDERED = (several_timestamps, timestamps_ascend)
GRID = (*ORDERED, timestamps_in_milliseconds)
CONTENT = (*GRID, finite_on_sound, above_five_seconds, same_input_same_output, depends_on_input, no_state_between_calls)
CHECKS = [
    Check(several_timestamps),
    Check(timestamps_ascend, (several_timestamps,)),
    Check(timestamps_in_milliseconds, ORDERED),
    Check(timestamps_evenly_spaced, GRID),
    Check(same_timestamps_in_a_batch),
    Check(no_timestamp_before_zero, ORDERED),
    Check(no_timestamp_past_the_end, (*GRID, below_one_second)),
    Check(starts_at_the_start, GRID),
    Check(reaches_the_end, GRID),
    Check(hop_at_most_50_ms, GRID),
    Check(timestamps_do_not_drift, (*GRID, above_five_seconds, timestamps_evenly_spaced)),
    Check(bursts.bursts_lie_at_their_timestamps, CONTENT),
    Check(bursts.late_bursts_lie_at_their_timestamps, (*CONTENT, bursts.bursts_lie_at_their_timestamps)),
]
