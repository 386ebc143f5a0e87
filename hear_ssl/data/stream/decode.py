"""Decode only the crops of a clip from its encoded bytes.

WAV with 16-bit samples is sliced without a decoder; libsndfile seeks in and decodes all other formats. A clip whose header does not
state its real length is decoded completely.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from hear_ssl.data.decoder_messages import without_decoder_messages
from hear_ssl.data.stream.memory_sound_file import open_sound
from hear_ssl.data.stream.stated_length import states_its_length
from hear_ssl.model.audio_file import MOST_CHANNELS, streams

Waveform = NDArray[np.float32]
PREROLL = 10 * 1152  # samples: an MP3 frame uses bits of earlier frames, at low rates of more frames than a seek decodes
LARGEST = 1e12  # largest sample whose power spectrum still fits in float32


class SampleRateError(ValueError):
    """A clip has another sample rate than the model: `rate` in Hz."""

    def __init__(self, rate: int, expected: int) -> None:
        super().__init__(f"has {rate} Hz; the model wants {expected} Hz: pack again with --sample-rate {expected}")
        self.rate = rate


def wav_layout(content: bytes) -> tuple[int, int, int, int] | None:
    """Return (sample rate, channels, offset and length of the data in bytes) of a 16-bit PCM WAV, otherwise None."""
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


def decode_into(crops: Waveform, content: bytes, starts: list[float], sample_rate: int) -> int:
    """Fill crops (crops, time) and return the clip's length in samples; starts are relative, 0 the first and 1 the last position.

    A clip shorter than the crop is placed within zeros at that relative position. Raises ValueError when the clip does not decode to its
    end, has another sample rate (SampleRateError), no samples, or samples unfit for training.
    """
    layout = wav_layout(content)
    if layout is not None and layout[1] == 1 and _is_all(content, layout[2]):
        rate, _, offset, length = layout
        samples = np.frombuffer(content, "<i2", length // 2, offset)
        _check_rate(rate, sample_rate)
        check_length(len(samples))
        for crop, share in zip(crops, starts, strict=True):
            place(samples, share, crop, np.float32(1.0 / 32768.0))
        return len(samples)
    try:
        frames = _read_seeking(crops, content, starts, sample_rate)
    except (soundfile.SoundFileError, RuntimeError):  # damaged, or several files in one
        frames = 0
    if not frames:
        whole = decode_whole(content, sample_rate)
        frames = len(whole)
        for crop, share in zip(crops, starts, strict=True):
            place(whole, share, crop, np.float32(1.0))
    if not (crops.max() < LARGEST and crops.min() > -LARGEST):  # nor NaN
        raise ValueError("holds samples that are not finite, or far beyond 1")
    return frames


def _is_all(content: bytes, offset: int) -> bool:
    """Return whether the data of a 16-bit WAV, which begin at `offset`, have the stated size and no other file follows."""
    size = int.from_bytes(content[offset - 4 : offset], "little")
    if size % 2 or offset + size >= len(content):
        return size % 2 == 0 and offset + size == len(content)
    found = streams(content)
    return len(found) == 1 and not found[0].head


@without_decoder_messages()
def decode_whole(content: bytes, sample_rate: int) -> Waveform:
    """Return all samples (time,) of a clip as the mean of its channels, whatever length its header states.

    Raises ValueError when it has another sample rate, no samples, or does not decode to its end.
    """
    parts = []
    try:
        for stream in streams(content):
            parts += [block.mean(axis=1) for block in stream.blocks()]
            _check_rate(stream.rate, sample_rate)
            if stream.loss:
                raise ValueError(stream.loss)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"does not decode ({decoder_reason(error)[:80]})") from None
    waveform: Waveform = np.concatenate(parts) if parts else np.empty(0, np.float32)
    check_length(len(waveform))
    return waveform


def check_length(frames: int) -> None:
    """Raise ValueError when a clip has no samples."""
    if frames <= 0:
        raise ValueError("holds no samples")


def decoder_reason(error: Exception) -> str:
    """Return the message of a decoder, without the memory address that soundfile puts before it."""
    return " ".join(str(getattr(error, "error_string", error)).split())


@without_decoder_messages()
def _read_seeking(crops: Waveform, content: bytes, starts: list[float], sample_rate: int) -> int:
    """Fill crops by seeking to each and return the clip's length in samples; 0 when the stated length is not the real one."""
    with open_sound(content) as file:
        _check_rate(file.samplerate, sample_rate)
        if file.channels > MOST_CHANNELS or not states_its_length(content, file.frames):
            return 0
        frames = int(file.frames)
        check_length(frames)
        spare = frames - crops.shape[1]
        if spare <= 0:
            whole = np.empty(frames, np.float32)
            if not _filled(file, whole):
                return 0
            for crop, share in zip(crops, starts, strict=True):
                place(whole, share, crop, np.float32(1.0))
            return frames
        for number, (crop, share) in enumerate(zip(crops, starts, strict=True)):
            if number and file.format == "OGG":
                file.seek(0)  # libsndfile 1.2 reads stale Vorbis samples after a seek forward that follows a read
            start = int(share * (spare + 1))
            before = min(start, PREROLL) if file.format == "MP3" else 0
            file.seek(start - before)
            if not (_filled(file, np.empty(before, np.float32)) and _filled(file, crop)):
                return 0
    return frames


def _filled(file: Any, waveform: Waveform) -> bool:
    """Fill a waveform (time,) with the mean of the channels from the current position; return whether there were enough samples."""
    frames = file.read(out=waveform if file.channels == 1 else np.empty((len(waveform), file.channels), np.float32))
    if file.channels > 1 and len(frames) == len(waveform):
        np.mean(frames, axis=1, out=waveform)
    return len(frames) == len(waveform)


def _check_rate(rate: int, expected: int) -> None:
    if rate != expected:
        raise SampleRateError(rate, expected)


def place(samples: NDArray[np.generic], share: float, crop: Waveform, scale: np.float32) -> None:
    """Fill a crop (time,) from a clip's samples at a relative position, or place a shorter clip within zeros."""
    spare = len(samples) - len(crop)
    start = int(share * (abs(spare) + 1))
    if spare >= 0:
        np.multiply(samples[start : start + len(crop)], scale, out=crop)
        return
    crop[:start] = 0.0
    np.multiply(samples, scale, out=crop[start : start + len(samples)])
    crop[start + len(samples) :] = 0.0
