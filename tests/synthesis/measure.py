"""Measure waveforms and parameter vectors independently of the code that renders them; make a tone to measure."""

from __future__ import annotations

import numpy as np

from hear_ssl.synthesis.parameter_space import Array

RATE = 16000


def spectrum(waveform: Array, rate: int = RATE) -> tuple[Array, Array]:
    """Return frequencies and magnitudes under a Hann window."""
    return np.fft.rfftfreq(len(waveform), 1 / rate), np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))


def peak_frequency(waveform: Array, rate: int = RATE) -> float:
    """Return the frequency of the strongest bin, refined by a parabola through the log magnitudes of its neighbours."""
    frequencies, magnitude = spectrum(waveform, rate)
    k = int(magnitude[1:-1].argmax()) + 1
    a, b, c = np.log(magnitude[k - 1 : k + 2] + 1e-12)
    return float((k + 0.5 * (a - c) / (a - 2 * b + c)) * frequencies[1])


def decay_rate(waveform: Array, rate: int = RATE) -> float:
    """Return the decay in dB per second, from a line through the levels of blocks of 20 ms."""
    block = rate // 50
    level = 10 * np.log10(np.square(waveform[: len(waveform) // block * block]).reshape(-1, block).mean(axis=1) + 1e-20)
    audible = level > level.max() - 50
    return float(-np.polyfit(np.arange(len(level))[audible] * 0.02, level[audible], 1)[0])


def held_out(parameters: Array) -> Array:
    """Return for each coordinate whether it lies in the last quarter of one of 16 equal cells of [0, 1] (d,)."""
    return np.asarray(np.mod(np.asarray(parameters) * 16, 1.0) >= 0.75 - 1e-9)


def tone(hertz: float, seconds: float, rate: int = RATE) -> Array:
    """Return a sine of peak 0.5, float32 (time,)."""
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32) * np.float32(0.5)
