"""Render notes of tonal instruments: subtractive synthesis ("voice"), FM, plucked string, struck body.

Each instrument is a layout of named coordinates and a function that renders one note. The string is the closed form of
Karplus and Strong, "Digital Synthesis of Plucked-String and Drum Timbres", Computer Music Journal 7(2), 1983: the loop's
poles, harmonic by harmonic, instead of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hear_ssl.synthesis.engines import (
    LN_60_DB,
    bandpass,
    damped_modes,
    envelope,
    frame_times,
    harmonic_tone,
    lowpass,
    noise_frequencies,
    shaped_noise,
)
from hear_ssl.synthesis.parameter_space import Array, Coordinate, Layout

Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Note:
    """One note of a phrase: its pitch as a MIDI number, the seconds it is held, and the samples left in the clip."""

    midi: float
    hold_seconds: float
    samples: int
    sample_rate: int
    rng: np.random.Generator

    @property
    def frequency(self) -> float:
        """The fundamental in Hz."""
        return float(440.0 * 2.0 ** ((self.midi - 69.0) / 12.0))

    def lasting(self, seconds: float) -> int:
        """Return the number of samples of a note that lasts `seconds`, at most those left in the clip."""
        return max(16, min(self.samples, round(seconds * self.sample_rate)))


Renderer: TypeAlias = Callable[[Values, Note], Array]


def sample_times(samples: int, sample_rate: int) -> Array:
    """Return the time in seconds of every sample (samples,)."""
    return np.asarray(np.arange(samples, dtype=np.float32) / np.float32(sample_rate))


VOICE: Layout = (
    Coordinate("wave", 0.0, 4.0),  # sine, triangle, saw, square, narrow pulse, and interpolations
    Coordinate("detune_cents", 1.0, 30.0),
    Coordinate("second", 0.0, 1.0),
    Coordinate("noise", -60.0, -12.0),
    Coordinate("cutoff_harmonics", 1.5, 40.0, log=True),
    Coordinate("resonance", 0.6, 7.0, log=True),
    Coordinate("filter_octaves", -1.5, 3.5),
    Coordinate("filter_decay", 0.08, 1.5, log=True),
    Coordinate("attack", 0.003, 0.3, log=True),
    Coordinate("decay", 0.1, 2.0, log=True),
    Coordinate("sustain", 0.0, 1.0),
    Coordinate("release", 0.05, 1.0, log=True),
    Coordinate("vibrato_hz", 3.0, 8.0),
    Coordinate("vibrato_cents", 1.0, 70.0, log=True),
    Coordinate("tremolo", 0.0, 0.7),
    Coordinate("glide_semitones", -4.0, 4.0),
)


def waveform_harmonics(wave: float, harmonics: int) -> Array:
    """Return the amplitudes of the harmonics of a wave: 0 sine, 1 triangle, 2 saw, 3 square, 4 narrow pulse (harmonics,)."""
    m = np.arange(1, harmonics + 1)
    odd = m % 2
    shapes = np.stack([m == 1, odd / m**2, 1.0 / m, odd / m, np.abs(np.sin(np.pi * m * 0.12)) / m])  # (5, harmonics)
    low = min(int(wave), 3)
    return np.asarray((1.0 - (wave - low)) * shapes[low] + (wave - low) * shapes[low + 1])


def vibrato(note: Note, time: Array, rate: float, cents: float, glide_semitones: float = 0.0) -> Array:
    """Return the fundamental in Hz with vibrato that fades in over 0.3 s and a glide that ends within 0.15 s (time,)."""
    swing = cents / 100.0 * np.sin(2.0 * np.pi * (rate * time + note.rng.random())) * np.minimum(time / 0.3, 1.0)
    return np.asarray(note.frequency * 2.0 ** ((swing + glide_semitones * np.exp(time * (-6.0 / 0.15))) / 12.0))


def render_voice(values: Values, note: Note) -> Array:
    """Render two oscillators and noise through a resonant low-pass filter with an envelope (samples,)."""
    samples = note.lasting(note.hold_seconds + values["release"])
    time = sample_times(samples, note.sample_rate)
    frames = frame_times(samples, note.sample_rate)[:, None]
    frequency = vibrato(note, time, values["vibrato_hz"], values["vibrato_cents"], values["glide_semitones"])
    opening = values["filter_octaves"] * np.exp(frames * (-3.0 / values["filter_decay"]))
    cutoff = np.minimum(note.frequency * values["cutoff_harmonics"] * 2.0**opening, 0.45 * note.sample_rate)
    harmonics = max(1, min(400, int(0.47 * note.sample_rate / frequency.min())))
    raw = waveform_harmonics(values["wave"], harmonics)
    amplitudes = raw * lowpass(np.arange(1, harmonics + 1) * note.frequency, cutoff, values["resonance"])
    detune = (1.0, 2.0 ** (values["detune_cents"] / 1200.0)) if values["second"] > 0.4 else (1.0,)
    tone = harmonic_tone(frequency, amplitudes, note.sample_rate, detune)
    hiss = shaped_noise(lowpass(noise_frequencies(note.sample_rate), cutoff, values["resonance"]), samples, note.sample_rate, note.rng)
    tone = tone + 10.0 ** (values["noise"] / 20.0) * hiss
    tone *= envelope(time, values["attack"], values["decay"], values["sustain"], note.hold_seconds, values["release"])
    return np.asarray(tone * (1.0 - values["tremolo"] * (0.5 + 0.5 * np.sin(2.0 * np.pi * values["vibrato_hz"] * 0.8 * time))))


FM: Layout = (
    Coordinate("ratio", 0.0, 1.0),
    Coordinate("index", 0.3, 9.0, log=True),
    Coordinate("index_decay", 0.05, 2.0, log=True),
    Coordinate("index_rest", 0.0, 0.6),
    Coordinate("second_ratio", 0.0, 1.0),
    Coordinate("second_level", 0.0, 0.8),
    Coordinate("attack", 0.002, 0.15, log=True),
    Coordinate("decay", 0.2, 4.0, log=True),
    Coordinate("sustain", 0.0, 0.6),
    Coordinate("release", 0.08, 1.2, log=True),
    Coordinate("vibrato_cents", 1.0, 40.0, log=True),
)
FM_RATIOS = (0.5, 1.0, 1.41, 2.0, 2.76, 3.0, 3.5, 4.0, 5.4, 7.0, 9.0, 11.3)


def render_fm(values: Values, note: Note) -> Array:
    """Render two modulated carriers whose modulation index has an envelope of its own (samples,)."""
    samples = note.lasting(note.hold_seconds + values["release"])
    time = sample_times(samples, note.sample_rate)
    cycles = np.cumsum(vibrato(note, time, 5.5, values["vibrato_cents"])) / note.sample_rate
    ratio, second = (FM_RATIOS[min(int(values[name] * len(FM_RATIOS)), len(FM_RATIOS) - 1)] for name in ("ratio", "second_ratio"))
    ceiling = max(0.1, 0.4 * note.sample_rate / (ratio * note.frequency) - 1.0)  # the bandwidth stays under Nyquist (Carson)
    brightness = values["index_rest"] + (1.0 - values["index_rest"]) * np.exp(time * (-3.0 / values["index_decay"]))
    modulator = min(values["index"], ceiling) * brightness * _sine(ratio * cycles)
    tone = _sine(cycles + modulator / np.float32(2.0 * np.pi))
    if second * note.frequency < 0.45 * note.sample_rate:
        tone = tone + values["second_level"] * brightness * _sine(second * cycles)
    return np.asarray(tone * envelope(time, values["attack"], values["decay"], values["sustain"], note.hold_seconds, values["release"]))


def _sine(cycles: Array) -> Array:
    """Return the sine of a phase in cycles, wrapped in double precision before it becomes float32."""
    return np.asarray(np.sin((np.mod(cycles, 1.0) * (2.0 * np.pi)).astype(np.float32)))


STRING: Layout = (
    Coordinate("loss_seconds", 0.25, 6.0, log=True),
    Coordinate("damping", 0.02, 1.0, log=True),
    Coordinate("pluck_position", 0.05, 0.5),
    Coordinate("stiffness", 1e-6, 8e-4, log=True),
    Coordinate("softness", 0.0, 1.0),
    Coordinate("body_hz", 90.0, 700.0, log=True),
    Coordinate("body", 0.0, 0.8),
    Coordinate("release", 0.05, 0.8, log=True),
)


def string_modes(values: Values, frequency: float, sample_rate: int) -> tuple[Array, Array]:
    """Return the frequencies in Hz and 60 dB decay times in seconds of a Karplus-Strong loop's harmonics, (modes,) each.

    One pass through the loop scales a harmonic at f by rho |1 - damping + damping (1 + exp(-j 2 pi f / rate)) / 2|: the loss of
    the string times the averaging filter (equations 10 to 12 of the paper, with the averaging blended in by `damping`).
    """
    count = max(1, min(128, int(0.47 * sample_rate / frequency)))
    m = np.arange(1, count + 1)
    partials = m * frequency * np.sqrt(1.0 + values["stiffness"] * m**2)
    delay = np.exp(-2j * np.pi * partials / sample_rate)
    loop_gain = np.abs(1.0 - values["damping"] * 0.5 * (1.0 - delay)) * np.exp(-LN_60_DB / (values["loss_seconds"] * frequency))
    return partials, LN_60_DB / np.maximum(-np.log(np.maximum(loop_gain, 1e-9)) * frequency, 0.1)


def render_string(values: Values, note: Note) -> Array:
    """Render a plucked string that is damped when the note ends (samples,)."""
    partials, decays = string_modes(values, note.frequency, note.sample_rate)
    samples = note.lasting(min(note.hold_seconds + values["release"], 1.2 * float(decays.max())))
    m = np.arange(1, len(partials) + 1)
    burst = np.abs(note.rng.standard_normal(len(m)) * 0.4 + 1.0)  # the noise burst that fills the loop
    pick = np.abs(np.sin(np.pi * m * values["pluck_position"])) / m ** (0.4 + values["softness"])
    body = 1.0 + 4.0 * values["body"] * bandpass(partials, values["body_hz"], 3.0)
    phases = note.rng.random(len(m)) * (2.0 * np.pi)
    tone = damped_modes(partials, decays, burst * pick * body, phases, samples, note.sample_rate)
    time = sample_times(samples, note.sample_rate)
    return np.asarray(tone * envelope(time, 0.0015, 1.0, 1.0, note.hold_seconds, values["release"]))


STRUCK: Layout = (
    Coordinate("material", 0.0, 4.0),  # free bar, tuned bar, bell, plate, membrane, and interpolations
    Coordinate("decay", 0.08, 4.0, log=True),
    Coordinate("decay_slope", 0.1, 1.3),
    Coordinate("hardness", 2.0, 30.0, log=True),
    Coordinate("position", 0.05, 0.5),
    Coordinate("stretch", 0.94, 1.06),
    Coordinate("click", -50.0, -15.0),
    Coordinate("split_cents", 0.5, 25.0, log=True),
)
_ORDER = np.arange(1, 17)
_MODE_RATIOS = np.stack(
    [
        ((2 * _ORDER + 1) / 3.0112) ** 2,  # free bar: (3.0112, 5, 7, ...)^2 up to a factor
        np.array([1, 3.98, 9.9, 16.5, 19.9, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64]),  # bar tuned to 1 : 4 : 10, a marimba
        np.array([0.5, 1, 1.19, 1.5, 2, 2.5, 2.66, 3, 4, 5.3, 6.7, 8.2, 9.8, 11.5, 13.3, 15.2]),  # church bell: hum, prime, tierce, ...
        np.array([1, 1.58, 2.24, 2.92, 3.46, 4.1, 4.94, 5.6, 6.4, 7.3, 8.2, 9.2, 10.3, 11.4, 12.6, 13.9]),  # plate
        np.array([1, 1.59, 2.14, 2.3, 2.65, 2.92, 3.16, 3.5, 3.6, 3.65, 4.06, 4.15, 4.6, 4.83, 5.13, 5.41]),  # round membrane
    ]
)


def render_struck(values: Values, note: Note) -> Array:
    """Render a struck solid body: doubled modes, of which the higher decay faster, and the click of the mallet (samples,)."""
    low = min(int(values["material"]), 3)
    blend = values["material"] - low
    ratios = (_MODE_RATIOS[low] ** (1.0 - blend) * _MODE_RATIOS[low + 1] ** blend) ** values["stretch"]
    decays = np.maximum(values["decay"] * ratios ** -values["decay_slope"], 0.02)
    amplitudes = np.abs(np.sin(np.pi * _ORDER * values["position"])) / (1.0 + (ratios / values["hardness"]) ** 2)
    split = 2.0 ** (values["split_cents"] / 1200.0)
    frequencies = note.frequency * np.concatenate([ratios, ratios * split])
    samples = note.lasting(1.1 * float(decays.max()))
    phases = note.rng.random(32) * (2.0 * np.pi)
    tone = damped_modes(frequencies, np.tile(decays, 2), np.concatenate([amplitudes, 0.5 * amplitudes]), phases, samples, note.sample_rate)
    time = sample_times(samples, note.sample_rate)
    click = note.rng.standard_normal(samples, dtype=np.float32) * np.exp(time * np.float32(-400.0))
    return np.asarray((tone + 10.0 ** (values["click"] / 20.0) * click) * np.minimum(time / np.float32(0.0007), 1.0))
