"""Crops of clips with any sample rate: cut first, then resample only the crop.

torchaudio resamples with a windowed sinc (Hann, six zero crossings), whose kernel is cached for each pair of rates. For rates whose
ratio needs a very large kernel, such as 44,101 to 16,000 Hz, soxr is used.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
import torch

from hear_ssl.data.stream.decode import SampleRateError, Waveform, decode_into, decode_whole, place

LARGEST_KERNEL = 1 << 20  # values, 4 MB
ZERO_CROSSINGS = 6  # of torchaudio's sinc on each side
ROLLOFF = 0.99  # of its cut-off
KERNELS_KEPT = 16
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000  # Hz
SOXR_MARGIN = 0.05  # s of audio on each side of a crop, so that its ends equal those of a longer crop


def decode_any_rate(crops: Waveform, content: bytes, starts: list[float], sample_rate: int) -> float:
    """Fill crops (crops, time) from a clip of any sample rate, see `decode_into`; return the clip's length in seconds.

    Raises ValueError as `decode_into` does, and for an implausible sample rate.
    """
    try:
        return decode_into(crops, content, starts, sample_rate) / sample_rate
    except SampleRateError as error:
        rate = error.rate
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"has {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be resampled")
    length, first = piece(crops.shape[1], rate, sample_rate)
    longer = np.empty((len(crops), length), np.float32)
    frames = decode_into(longer, content, starts, rate)
    if frames > length:
        crops[:] = resampled(longer, rate, sample_rate)[:, first : first + crops.shape[1]]
    else:  # no part of a short clip may be in the margins
        whole = resampled(decode_whole(content, rate)[np.newaxis], rate, sample_rate)[0]
        for crop, share in zip(crops, starts, strict=True):
            place(whole, share, crop, np.float32(1.0))
    return frames / rate


def resample_into(crops: Waveform, samples: Waveform, rate: int, starts: list[float], sample_rate: int) -> float:
    """Fill crops from the samples (time,) of a clip at `rate`, as `decode_any_rate` does; return the clip's length in seconds."""
    length, first = piece(crops.shape[1], rate, sample_rate)
    if rate != sample_rate and len(samples) > length:
        longer = np.empty((len(crops), length), np.float32)
        for crop, share in zip(longer, starts, strict=True):
            place(samples, share, crop, np.float32(1.0))
        crops[:] = resampled(longer, rate, sample_rate)[:, first : first + crops.shape[1]]
        return len(samples) / rate
    whole = samples if rate == sample_rate else resampled(samples[np.newaxis], rate, sample_rate)[0]
    for crop, share in zip(crops, starts, strict=True):
        place(whole, share, crop, np.float32(1.0))
    return len(samples) / rate


def piece(time: int, rate: int, sample_rate: int) -> tuple[int, int]:
    """Return the number of samples at `rate` to resample for a crop of `time` samples at `sample_rate`, and the crop's start in the result.

    Samples before and after the crop make its ends equal to those of a longer crop. For torchaudio, the piece consists of whole blocks,
    the shortest pieces with whole numbers of samples at both rates, so that the crop begins at a sample of the clip.
    """
    before, after = blocks(rate, sample_rate)
    if kernel_size(before, after) > LARGEST_KERNEL:
        margin = math.ceil(SOXR_MARGIN * rate)
        return math.ceil(time * rate / sample_rate) + 2 * margin + 2, round(margin * sample_rate / rate)
    margin = math.ceil(ZERO_CROSSINGS / (min(before, after) * ROLLOFF)) + 1
    return (-(-time // after) + 2 * margin) * before, margin * after


def blocks(rate: int, sample_rate: int) -> tuple[int, int]:
    """Return the samples of a block before and after resampling."""
    divisor = math.gcd(rate, sample_rate)
    return rate // divisor, sample_rate // divisor


def kernel_size(before: int, after: int) -> int:
    """Return the number of values in torchaudio's kernel for blocks of these numbers of samples before and after resampling."""
    return after * (2 * math.ceil(ZERO_CROSSINGS * before / (min(before, after) * ROLLOFF)) + before)


def resampled(waveforms: Waveform, rate: int, sample_rate: int) -> Waveform:
    """Return waveforms (crops, time at `rate`) at `sample_rate`, (crops, time)."""
    if kernel_size(*blocks(rate, sample_rate)) > LARGEST_KERNEL:
        return np.stack([soxr.resample(waveform, rate, sample_rate, quality="HQ") for waveform in waveforms])
    with torch.inference_mode():
        result: Waveform = resampler(rate, sample_rate)(torch.from_numpy(waveforms)).numpy()
    return result


@lru_cache(KERNELS_KEPT)
def resampler(rate: int, sample_rate: int) -> Any:
    """Return torchaudio's resampler between two rates, with its kernel."""
    from torchaudio.transforms import Resample  # loads slowly, and only clips of another rate need it

    return Resample(rate, sample_rate, lowpass_filter_width=ZERO_CROSSINGS, rolloff=ROLLOFF)
