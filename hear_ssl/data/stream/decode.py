"""Decode just a crop of a clip from its encoded bytes.

WAV with 16-bit samples is sliced without a decoder; everything else goes through soundfile, which seeks.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from hear_ssl.data.stream.memory_sound_file import open_sound

Waveform = NDArray[np.float32]
PREROLL = 10 * 1152  # samples: an MP3 frame takes bits from frames before it, at low rates from more than a seek decodes
UNKNOWN_LENGTH = 2**63 - 1  # frames that libsndfile gives FLAC whose header says none
LOWEST_RATE, HIGHEST_RATE = 1000, 1 << 22  # Hz
MOST_CHANNELS = 256
LARGEST = 1e12  # a sample: the power of its spectrum still is a float32


def wav_layout(content: bytes) -> tuple[int, int, int, int] | None:
    """Return (sample rate, channels, offset and length in bytes of the data) of a 16-bit PCM WAV, else None."""
    if len(content) < 44 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    place, layout = 12, None
    while place + 8 <= len(content):
        name, size = content[place : place + 4], struct.unpack_from("<I", content, place + 4)[0]
        if name == b"fmt " and size >= 16 and place + 24 <= len(content):
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content, place + 8)
            layout = (rate, channels) if kind == 1 and bits == 16 else None
        if name == b"data":
            return (*layout, place + 8, min(size, len(content) - place - 8)) if layout else None
        place += 8 + size + size % 2
    return None


def decode_into(crops: Waveform, content: bytes, starts: list[float], sample_rate: int) -> None:
    """Fill crops (crops, time) that start at shares 0 to 1 of the places where a whole crop fits; short clips are padded.

    In a clip shorter than the crop the share places the clip within zeros. Raises ValueError when the clip does not
    decode, has another sample rate, no length, or samples that cannot be trained on.
    """
    layout = wav_layout(content)
    if layout is not None and layout[1] == 1:
        rate, _, offset, length = layout
        samples = np.frombuffer(content, "<i2", length // 2, offset)
        _check_rate(rate, sample_rate)
        check_length(len(samples))
        for crop, share in zip(crops, starts, strict=True):
            _place(samples, share, crop, np.float32(1.0 / 32768.0))
        return
    try:
        with open_sound(content) as file:
            _check_rate(file.samplerate, sample_rate)
            check_rate(file.samplerate, file.channels)
            check_length(file.frames)
            _read_crops(file, crops, starts)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"does not decode ({decoder_reason(error)[:80]})") from None
    if not (crops.max() < LARGEST and crops.min() > -LARGEST):  # nor NaN
        raise ValueError("holds samples that are no finite numbers, or far beyond 1")


def check_length(frames: int) -> None:
    """Raise ValueError when a clip has no samples, or a header that does not say how many, as FLAC from a pipe."""
    if not 0 < frames < UNKNOWN_LENGTH:
        raise ValueError("its header does not say how long it is" if frames > 0 else "holds no samples")


def check_rate(rate: int, channels: int) -> None:
    """Raise ValueError at a sample rate at which a small file would be gigabytes at another, or with more channels than there are."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"its sample rate is {rate} Hz; from {LOWEST_RATE} to {HIGHEST_RATE} Hz can be read")
    if channels > MOST_CHANNELS:
        raise ValueError(f"it has {channels} channels; up to {MOST_CHANNELS} can be read")


def decoder_reason(error: Exception) -> str:
    """Return what a decoder said, without the address in memory that soundfile puts before it."""
    return " ".join(str(getattr(error, "error_string", error)).split())


def _read_crops(file: Any, crops: Waveform, starts: list[float]) -> None:
    spare = file.frames - crops.shape[1]
    if spare <= 0:
        whole = np.empty(file.frames, np.float32)
        _read(file, whole)
        for crop, share in zip(crops, starts, strict=True):
            _place(whole, share, crop, np.float32(1.0))
        return
    for number, (crop, share) in enumerate(zip(crops, starts, strict=True)):
        if number and file.format == "OGG":
            file.seek(0)  # libsndfile 1.2 reads stale Vorbis samples after a seek forward behind a read
        start = int(share * (spare + 1))
        before = min(start, PREROLL) if file.format == "MP3" else 0
        file.seek(start - before)
        _read(file, np.empty(before, np.float32))
        _read(file, crop)


def _read(file: Any, waveform: Waveform) -> None:
    """Fill a waveform (time,) with the mean of the channels from where the file stands."""
    frames = file.read(out=waveform if file.channels == 1 else np.empty((len(waveform), file.channels), np.float32))
    if len(frames) != len(waveform):
        raise ValueError(f"ends after {len(frames)} of {len(waveform)} samples")
    if file.channels > 1:
        np.mean(frames, axis=1, out=waveform)


def _check_rate(rate: int, expected: int) -> None:
    if rate != expected:
        raise ValueError(f"has {rate} Hz; the model wants {expected} Hz: pack again with --sample-rate {expected}")


def _place(samples: NDArray[np.generic], share: float, crop: Waveform, scale: np.float32) -> None:
    """Cut a crop (time,) from a clip's samples at a share of its places, or lay a shorter clip within zeros."""
    spare = len(samples) - len(crop)
    start = int(share * (abs(spare) + 1))
    if spare >= 0:
        np.multiply(samples[start : start + len(crop)], scale, out=crop)
        return
    crop[:start] = 0.0
    np.multiply(samples, scale, out=crop[start : start + len(samples)])
    crop[start + len(samples) :] = 0.0
