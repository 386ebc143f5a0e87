"""Minutes of audio: time and peak memory, including weights and embeddings, on the CPU and on a GPU if there is one.

On the CPU the peak is that of resident memory, including 0.4 GB of the interpreter and torch; on a GPU it is that of allocated memory.
Both functions of the API are called, one after the other.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import torch
from torch import Tensor

from .independence import difference
from .outputs import above_five_seconds, finite_on_sound
from .rows import Check, RuleResult, Submission, found
from .timing import several_timestamps, timestamps_in_milliseconds

LIMIT_GB = 16.0
GPU_TOLERANCE = 1e-2  # TF32 and other kernels: 1e-3 in practice


def reset_peak(gpu: bool) -> None:
    """Reset the peak of resident memory (Linux, proc(5): clear_refs), or of allocated GPU memory."""
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system, or not allowed in a container: then the peak is that since the start, or unknown
        return


def peak_gb(gpu: bool) -> float:
    """Return the peak in GB since the last reset, or since the start if the system reports no other; otherwise NaN."""
    if gpu:
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return peak_since_start_gb()


def peak_since_start_gb() -> float:
    """Return the peak of resident memory since the start in GB (getrusage(2): bytes on macOS, kB elsewhere); NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def size_gb(tensor: Tensor) -> float:
    """Return the size of a tensor in GB."""
    return tensor.numel() * tensor.element_size() / 1e9


def embed(submission: Submission, audio: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return timestamp embeddings, timestamps and scene embeddings of the audio, without a copy, which would count."""
    embeddings, timestamps_ms = submission.module.get_timestamp_embeddings(audio, submission.model)
    return embeddings, timestamps_ms, submission.module.get_scene_embeddings(audio, submission.model)


@dataclass
class LongAudio:
    """Cost of embedding minutes of audio: peak memory, the part of it for weights and outputs (GB), and time (s)."""

    peak: float
    own: float
    seconds: float
    speed: float
    finite: bool
    whole: bool

    def row(self, memory: str) -> RuleResult:
        """Return the row: whether outputs are finite, timestamps reach the end, and memory is within the rule, if it is known."""
        whole = ("" if self.finite else "; not finite") + ("" if self.whole else "; timestamps do not reach the end")
        if whole or not math.isnan(self.peak):
            return found(memory + whole, not whole and self.peak <= LIMIT_GB)
        return found("not measured: this system does not report how much memory a process took", None)

    def text(self) -> str:
        """Return the measurement as text."""
        text = f"peak {self.peak:.2f} GB, {self.own:.2f} of it weights and embeddings"
        return f"{text}; {self.seconds:.1f} s ({self.speed:.0f} times real time)"


def minutes(submission: Submission, count: int, batch: int = 1, gpu: bool = False) -> LongAudio:
    """Embed `count` minutes of noise, `batch` times; the speed counts scene and timestamp embeddings as two passes."""
    rate = int(submission.model.sample_rate)
    audio = submission.noise(10.0)[:, : 10 * rate].repeat(batch, 6 * count)
    audio = audio.cuda() if gpu else audio
    reset_peak(gpu)
    start = time.perf_counter()
    outputs = embed(submission, audio)
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = peak_gb(gpu)
    finite = all(bool(torch.isfinite(row).all()) for output in outputs for row in output)
    whole = abs(float(outputs[1].max()) / 1000.0 - count * 60) < 1.0
    own = sum(size_gb(tensor) for tensor in [*outputs, *submission.model.parameters(), *submission.model.buffers()])
    return LongAudio(peak, own, seconds, 2 * batch * count * 60 / seconds, finite, whole)


def measured(submission: Submission, count: int, batch: int = 1, gpu: bool = False) -> RuleResult:
    """Return the row for a clip."""
    clip = minutes(submission, count, batch, gpu)
    return clip.row(clip.text())


def twenty_minutes(submission: Submission) -> RuleResult:
    """20 minutes of audio stay under 16 GB with weights and embeddings, and get timestamps to their end.

    This is a rule of HEAR; 18 of 29 models ran out of memory on clips of ten minutes.
    """
    return measured(submission, 20)


def twenty_minutes_in_powers_of_two(submission: Submission) -> RuleResult:
    """20 minutes of audio stay under 16 GB with weights and embeddings, and get timestamps to their end.

    The report in the package has the same bytes each time it is made, so it contains neither seconds nor the exact peak.
    """
    clip = minutes(submission, 20)
    bound = next((gb for gb in (4, 8, 16) if clip.peak <= gb), None)
    return clip.row(f"peak of resident memory on the CPU {f'below {bound} GB' if bound else f'{clip.peak:.0f} GB'}")


def ten_minutes(submission: Submission) -> RuleResult:
    """10 minutes of audio, the length of the Beehive task, stay under 16 GB with weights and embeddings."""
    return measured(submission, 10)


def four_times_five_minutes(submission: Submission) -> RuleResult:
    """A batch of 4 x 5 minutes stays under 16 GB with weights and embeddings."""
    return measured(submission, 5, batch=4)


def minutes_on_a_gpu(submission: Submission) -> RuleResult:
    """On a GPU 20 minutes, 10 minutes and 4 x 5 minutes stay under 16 GB, and 20 s equal the CPU's embeddings to 1 %."""
    if not torch.cuda.is_available():
        return found("not measured: no GPU here", None)
    audio = submission.noise(20.0)
    expected = submission.scene(audio)
    submission.model.cuda()
    try:
        distance = difference(expected, submission.scene(audio.cuda()).cpu())
        rows = [measured(submission, count, batch, gpu=True) for count, batch in ((20, 1), (10, 1), (5, 4))]
    finally:
        submission.model.cpu()
    text = "; ".join(f"{name} min {row.measured}" for name, row in zip(("20", "10", "4 x 5"), rows))  # noqa: B905
    return found(f"{text}; {distance:.2g} from the CPU (relative)", all(row.passed for row in rows) and distance <= GPU_TOLERANCE)


NEEDS = (finite_on_sound, above_five_seconds, several_timestamps, timestamps_in_milliseconds)
CHECKS = [Check(measure, NEEDS) for measure in (twenty_minutes, ten_minutes, four_times_five_minutes, minutes_on_a_gpu)]
REPORTED = [Check(twenty_minutes_in_powers_of_two, NEEDS)]
