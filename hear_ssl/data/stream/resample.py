"""Crops of clips of any sample rate: cut first, then resample only the crop.

torchaudio resamples with a windowed sinc (Hann, six zero crossings) whose kernel is kept for each pair of rates. Rates whose ratio
needs a very large kernel, such as 44,101 to 16,000 Hz, go through soxr.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
import torch

from hear_ssl.data.stream.decode import SampleRateError, Waveform, decode_into

LARGEST_KERNEL = 1 << 20  # values, 4 MB
ZERO_CROSSINGS = 6  # of torchaudio's sinc on each side
ROLLOFF = 0.99  # of its cut-off
KERNELS_KEPT = 16
SOXR_MARGIN = 0.05  # s of sound on each side of a crop, so that its ends are those of a longer one


def decode_any_rate(crops: Waveform, content: bytes, starts: list[float], sample_rate: int) -> float:
    """Fill crops (crops, time) from a clip of any sample rate, see `decode_into`; return the clip's length in seconds.

    Raises ValueError as `decode_into` does.
    """
    try:
        return decode_into(crops, content, starts, sample_rate) / sample_rate
    except SampleRateError as error:
        rate = error.rate
    block_in, block_out, margin = blocks(rate, sample_rate)
    time = crops.shape[1]
    longer = np.empty((len(crops), (-(-time // block_out) + 2 * margin) * block_in), np.float32)
    frames = decode_into(longer, content, starts, rate)
    first = margin * block_out
    crops[:] = resampled(longer, rate, sample_rate)[:, first : first + time]
    return frames / rate


def blocks(rate: int, sample_rate: int) -> tuple[int, int, int]:
    """Return the samples of a block before and after resampling, and how many blocks the kernel reaches to each side.

    A block is the shortest piece of whole samples at both rates.
    """
    divisor = math.gcd(rate, sample_rate)
    before, after = rate // divisor, sample_rate // divisor
    reach = ZERO_CROSSINGS * before / (min(before, after) * ROLLOFF)
    if kernel_size(before, after) > LARGEST_KERNEL:
        reach = SOXR_MARGIN * rate
    return before, after, math.ceil(reach / before) + 1


def kernel_size(before: int, after: int) -> int:
    """Return how many values torchaudio's kernel has for blocks of so many samples before and after."""
    return after * (2 * math.ceil(ZERO_CROSSINGS * before / (min(before, after) * ROLLOFF)) + before)


def resampled(waveforms: Waveform, rate: int, sample_rate: int) -> Waveform:
    """Return waveforms (crops, time at `rate`) at `sample_rate`, (crops, time)."""
    divisor = math.gcd(rate, sample_rate)
    if kernel_size(rate // divisor, sample_rate // divisor) > LARGEST_KERNEL:
        return np.stack([soxr.resample(waveform, rate, sample_rate, quality="HQ") for waveform in waveforms])
    with torch.inference_mode():
        result: Waveform = resampler(rate, sample_rate)(torch.from_numpy(waveforms)).numpy()
    return result


@lru_cache(KERNELS_KEPT)
def resampler(rate: int, sample_rate: int) -> Any:
    """Return torchaudio's resampler between two rates, with its kernel."""
    from torchaudio.transforms import Resample  # loads slowly, and only clips of another rate need it

    return Resample(rate, sample_rate, lowpass_filter_width=ZERO_CROSSINGS, rolloff=ROLLOFF)
