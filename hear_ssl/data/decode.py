"""Decode just a crop of a clip from its encoded bytes.

WAV with 16-bit samples is sliced without a decoder; everything else goes through soundfile, which seeks.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


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


def decode_crops(content: bytes, starts: list[float], time: int, sample_rate: int) -> list[Waveform]:
    """Return crops (time,) that start at shares 0 to 1 of the places where a whole crop fits; short clips are padded.

    In a clip shorter than the crop the share places the clip within zeros. Raises ValueError when the clip does not
    decode or has another sample rate.
    """
    layout = wav_layout(content)
    if layout is not None and layout[1] == 1:
        rate, _, offset, length = layout
        samples = np.frombuffer(content, "<i2", length // 2, offset)
        _check_rate(rate, sample_rate)
        return [_place(samples, share, time, np.float32(1.0 / 32768.0)) for share in starts]
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _check_rate(file.samplerate, sample_rate)
            if file.frames <= time:
                whole = _mono(file.read(dtype="float32", always_2d=True), file.frames)
                return [_place(whole, share, time, np.float32(1.0)) for share in starts]
            crops: list[Waveform] = []
            for share in starts:
                if crops and file.format == "OGG":
                    file.seek(0)  # libsndfile 1.2 reads stale Vorbis samples after a seek forward behind a read
                file.seek(int(share * (file.frames - time + 1)))
                crops.append(_mono(file.read(time, dtype="float32", always_2d=True), time))
            return crops
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"does not decode ({decoder_reason(error)[:80]})") from None


def decoder_reason(error: Exception) -> str:
    """Return what a decoder said, without the address in memory that soundfile puts before it."""
    return " ".join(str(getattr(error, "error_string", error)).split())


def _mono(frames: Waveform, expected: int) -> Waveform:
    if len(frames) != expected:
        raise ValueError(f"ends after {len(frames)} of {expected} samples")
    return np.ascontiguousarray(frames[:, 0]) if frames.shape[1] == 1 else frames.mean(axis=1)


def _check_rate(rate: int, expected: int) -> None:
    if rate != expected:
        raise ValueError(f"has {rate} Hz; the model wants {expected} Hz: pack again with --sample-rate {expected}")


def _place(samples: NDArray[np.generic], share: float, time: int, scale: np.float32) -> Waveform:
    spare = len(samples) - time
    if spare >= 0:
        start = int(share * (spare + 1))
        return samples[start : start + time].astype(np.float32) * scale
    crop = np.zeros(time, np.float32)
    start = int(share * (-spare + 1))
    crop[start : start + len(samples)] = samples.astype(np.float32) * scale
    return crop
