"""Small audio files of every kind for the tests of packing and decoding."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(seconds: float, frequency: float = 440.0, rate: int = 16000) -> NDArray[np.float32]:
    """Return a sine (time,) of half the full scale."""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, waveform: NDArray[Any], rate: int = 16000, subtype: str | None = None) -> Path:
    """Write an audio file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, subtype=subtype)
    return path


def encoded(waveform: NDArray[Any], rate: int = 16000, format: str = "WAV", subtype: str | None = None) -> bytes:
    """Return the bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=format, subtype=subtype)
    return file.getvalue()


def of_length(flac: bytes, samples: int) -> bytes:
    """Return a FLAC file whose header states another length."""
    return flac[:21] + bytes([flac[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big") + flac[26:]


def of_unknown_length(flac: bytes) -> bytes:
    """Return a FLAC file whose header does not say how long it is, as a pipe writes it."""
    return of_length(flac, 0)
