"""Render single strokes of percussion for `stroke_pairs`: damped modes, whose pitch may glide, and bursts of band-passed noise.

Frequency ratios of modes after Fletcher and Rossing, The Physics of Musical Instruments, 2nd ed., 1998.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hear_ssl.synthesis.engines import (
    LN_60_DB,
    SAMPLE_RATE,
    bandpass,
    damped_modes,
    frame_times,
    interpolate_log,
    noise_frequencies,
    normalise_peak,
    shaped_noise,
)
from hear_ssl.synthesis.parameter_space import Array

Span = tuple[float, float]
MODES = {
    "membrane": (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5),
    "kettle": (1.0, 1.5, 2.0, 2.44, 2.9),
    "bar": (1.0, 2.76, 5.4, 8.93),
    "tuned bar": (1.0, 3.98, 9.2),
    "bell": (0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.66, 3.0, 4.0, 5.3),
    "string": tuple(float(n) for n in range(1, 16)),
    "two": (1.0, 1.48, 2.0, 2.96, 3.0, 4.44, 5.0),
    "one": (1.0, 2.0, 3.0),
}


@dataclass(frozen=True)
class Kind:
    """A kind of stroke: the spans (low, high) that its parameters are drawn from."""

    modes: str  # a key of MODES, or "cluster" for inharmonic modes at random
    hertz: Span  # of the lowest mode
    decay: Span  # seconds in which the lowest mode falls by 60 dB
    tone: Span = (0.0, 0.0)  # level of the modes, dB
    noise: Span = (-30.0, -12.0)  # level of the noise, dB
    band: Span = (1500.0, 5000.0)  # centre of the noise, Hz
    noise_decay: Span = (0.01, 0.05)  # seconds in which the noise falls by 60 dB
    glide: Span = (0.0, 0.05)  # octaves by which the modes fall
    rise: Span = (0.0003, 0.002)  # attack, seconds
    bursts: tuple[int, int] = (1, 1)  # of noise
    quality: Span = (0.4, 1.5)  # quality factor of the noise band


SILENT = (-90.0, -80.0)
KINDS = {
    "kick": Kind("membrane", (38, 75), (0.15, 0.9), noise=(-35, -10), band=(1500, 5000), noise_decay=(0.005, 0.04), glide=(0.4, 2.6)),
    "snare": Kind("membrane", (140, 270), (0.08, 0.35), noise=(-3, 12), band=(1800, 6000), noise_decay=(0.12, 0.5), glide=(0.0, 0.5)),
    "rim": Kind("bar", (350, 950), (0.02, 0.08), noise=(-8, 4), band=(1500, 4000), noise_decay=(0.008, 0.03)),
    "clap": Kind("one", (900, 1500), (0.02, 0.05), SILENT, (0, 0), (900, 2200), (0.1, 0.45), bursts=(3, 5), quality=(1.0, 3.0)),
    "closed hat": Kind("cluster", (4000, 6500), (0.03, 0.18), noise=(-3, 12), band=(6500, 8000), noise_decay=(0.03, 0.15)),
    "open hat": Kind("cluster", (4000, 6500), (0.5, 1.8), noise=(-3, 12), band=(6500, 8000), noise_decay=(0.4, 1.5)),
    "crash": Kind("cluster", (900, 2200), (1.5, 5.0), noise=(-3, 9), band=(3500, 7500), noise_decay=(1.0, 3.5), rise=(0.001, 0.02)),
    "ride": Kind("cluster", (1500, 3500), (1.5, 5.0), noise=(-18, -3), band=(4500, 8000), noise_decay=(0.02, 0.2)),
    "low tom": Kind("membrane", (60, 105), (0.25, 1.3), noise=(-25, -8), noise_decay=(0.01, 0.1), glide=(0.1, 0.9)),
    "mid tom": Kind("membrane", (105, 165), (0.25, 1.2), noise=(-25, -8), noise_decay=(0.01, 0.1), glide=(0.1, 0.8)),
    "high tom": Kind("membrane", (165, 280), (0.2, 1.0), noise=(-25, -8), noise_decay=(0.01, 0.1), glide=(0.1, 0.7)),
    "conga": Kind("membrane", (160, 350), (0.15, 0.6), noise=(-15, 0), band=(1200, 3500), noise_decay=(0.008, 0.05)),
    "bongo": Kind("membrane", (300, 650), (0.06, 0.3), noise=(-15, 0), band=(1500, 4500), noise_decay=(0.006, 0.04)),
    "cowbell": Kind("two", (480, 680), (0.12, 0.9)),
    "agogo": Kind("bell", (650, 1500), (0.2, 0.9)),
    "block": Kind("bar", (750, 2600), (0.03, 0.14)),
    "shaker": Kind("one", (3000, 5000), (0.02, 0.05), SILENT, (0, 0), (4500, 7800), (0.05, 0.16), rise=(0.015, 0.07)),
    "tambourine": Kind("cluster", (4500, 7000), (0.1, 0.4), noise=(0, 12), band=(5500, 8000), noise_decay=(0.08, 0.35), bursts=(3, 6)),
    "triangle": Kind("bell", (1300, 2600), (1.0, 4.0)),
    "timpani": Kind("kettle", (65, 150), (1.0, 3.5), noise=(-35, -15), band=(400, 1500)),
    "bell": Kind("bell", (200, 700), (1.2, 5.0)),
    "wooden bar": Kind("tuned bar", (170, 1300), (0.15, 0.7), noise=(-25, -8), band=(700, 2500)),
    "metal bar": Kind("bar", (500, 2500), (1.0, 4.0)),
    "sheet": Kind("cluster", (250, 1200), (0.3, 2.0), noise=(-12, 3), band=(1000, 5000), noise_decay=(0.03, 0.3)),
    "box": Kind("cluster", (120, 700), (0.03, 0.16), noise=(-9, 6), band=(400, 2500), noise_decay=(0.01, 0.06)),
    "glass": Kind("cluster", (1500, 4500), (0.1, 0.8), noise=(-20, -3), band=(4000, 8000)),
    "string": Kind("string", (80, 650), (0.4, 2.5), noise=(-30, -12), band=(1000, 4000)),
    "whoosh": Kind("one", (300, 900), (0.02, 0.05), SILENT, (0, 0), (500, 5000), (0.1, 0.5), rise=(0.05, 0.25), quality=(0.5, 4.0)),
    "gong": Kind("cluster", (80, 400), (2.5, 6.0), noise=(-12, 3), band=(500, 3000), noise_decay=(1.0, 4.0), rise=(0.005, 0.06)),
    "zap": Kind("one", (80, 400), (0.15, 0.7), noise=(-40, -20), glide=(2.0, 4.5)),
}


@dataclass(frozen=True)
class Stroke:
    """What the two clips of a pair share of a stroke; half of size, damping and hardness is drawn for each clip."""

    kind: str  # of KINDS, or the name of a numbered recording
    positions: Array  # of size, damping and hardness in their spans, 0 to 1 (3,)
    loudness: float  # peak


@dataclass(frozen=True)
class Kit:
    """The instruments of one clip; further parameters of a kind are drawn from `seed` and its name."""

    seed: int
    tuning: float  # factor of frequencies
    ringing: float  # factor of decay times
    electronic: float  # probability that a kind has the exact ratios and few modes of a drum machine


def draw_modes(kind: Kind, hertz: float, kit: Kit, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return frequencies in Hz and amplitudes of the modes of a stroke, (modes,) each."""
    if kind.modes == "cluster":
        count = 6 if rng.random() < kit.electronic else int(rng.integers(10, 40))
        hertz = min(hertz, 6500.0)
        frequencies = hertz * np.exp(rng.uniform(0.0, np.log(min(8.0, 7600.0 / hertz)), count))
        return frequencies, rng.lognormal(0.0, 0.7, count)
    ratios = np.array(MODES[kind.modes])
    spread = 0.0 if rng.random() < kit.electronic else 0.03
    ratios = ratios * np.exp(spread * rng.standard_normal(len(ratios)) * (ratios > 1.0))
    fall = rng.uniform(0.6, 2.5) + 2.0 * (rng.random() < kit.electronic)
    return hertz * ratios, ratios**-fall * rng.lognormal(0.0, 0.4, len(ratios))


def gliding_modes(frequencies: Array, decays: Array, amplitudes: Array, octaves: float, seconds: float, time: Array) -> Array:
    """Return the sum of the lowest four modes with a glide: they begin `octaves` higher and fall with time constant `seconds` (time,)."""
    fall = 2.0 ** (octaves * np.exp(-time / seconds))
    sound = np.zeros_like(time)
    for hertz, decay, amplitude in zip(frequencies[:4], decays[:4], amplitudes[:4], strict=True):
        phase = 2.0 * np.pi * np.cumsum(np.minimum(hertz * fall, 7000.0)) / SAMPLE_RATE
        sound += amplitude * np.sin(phase) * np.exp(-LN_60_DB / decay * time)
    return sound


def render_tone(kind: Kind, stroke: Stroke, kit: Kit, rng: np.random.Generator, samples: int) -> Array:
    """Return the damped modes of a stroke at a peak of 1 (samples,)."""
    position = 0.5 * (stroke.positions + rng.random(3))
    hertz = interpolate_log(kind.hertz, position[0]) * kit.tuning
    frequencies, amplitudes = draw_modes(kind, hertz, kit, rng)
    decay = interpolate_log(kind.decay, position[1]) * kit.ringing
    decays = decay * (frequencies / frequencies.min()) ** -rng.uniform(0.1, 0.9)
    amplitudes = amplitudes * (frequencies / frequencies.min()) ** (1.2 * (position[2] - 0.7))
    octaves = kind.glide[0] + (kind.glide[1] - kind.glide[0]) * rng.random()
    time = np.arange(samples) / SAMPLE_RATE
    if octaves > 0.05:
        sound = gliding_modes(frequencies, decays, amplitudes, octaves, interpolate_log((0.008, 0.09), rng.random()), time)
    else:
        sound = damped_modes(frequencies, decays, amplitudes, rng.uniform(0.0, 2.0 * np.pi, len(frequencies)), samples, SAMPLE_RATE)
    return normalise_peak(sound * np.minimum(time / interpolate_log(kind.rise, rng.random()), 1.0))


def render_noise(kind: Kind, stroke: Stroke, kit: Kit, rng: np.random.Generator, samples: int) -> Array:
    """Return the bursts of noise of a stroke at a peak of 1 (samples,)."""
    position = 0.5 * (stroke.positions + rng.random(3))
    band = bandpass(
        noise_frequencies(SAMPLE_RATE), min(interpolate_log(kind.band, position[2]), 7900.0), interpolate_log(kind.quality, rng.random())
    )
    noise = shaped_noise(np.tile(band, (len(frame_times(samples, SAMPLE_RATE)), 1)), samples, SAMPLE_RATE, rng)
    decay, rise = interpolate_log(kind.noise_decay, position[1]) * kit.ringing, interpolate_log(kind.rise, rng.random())
    time, envelope = np.arange(samples) / SAMPLE_RATE, np.zeros(samples)
    gap, bursts = rng.uniform(0.007, 0.02), int(rng.integers(kind.bursts[0], kind.bursts[1] + 1))
    for burst in range(bursts):
        delayed = time - burst * gap
        decay_seconds = decay if burst == bursts - 1 else min(decay, 3.0 * gap)
        shape = np.minimum(delayed / rise, 1.0) * np.exp(-LN_60_DB / decay_seconds * np.maximum(delayed - rise, 0.0))
        envelope = np.maximum(envelope, np.where(delayed >= 0.0, shape, 0.0))
    return normalise_peak(noise * envelope)


def render(stroke: Stroke, kit: Kit, rng: np.random.Generator, samples: int) -> Array:
    """Return one stroke on a kit: its modes and its noise at levels drawn here (samples,)."""
    kind = KINDS[stroke.kind]
    levels = (rng.uniform(*kind.tone), rng.uniform(*kind.noise))
    parts = (render_tone(kind, stroke, kit, rng, samples), render_noise(kind, stroke, kit, rng, samples))
    return np.asarray(sum(10.0 ** (level / 20.0) * part for level, part in zip(levels, parts, strict=True)))
