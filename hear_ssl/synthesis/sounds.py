"""Render sounds other than tonal instruments: vowel, chirp, drum, wind, rain, motor.

Vowels follow the source-filter model with formants in the range of Peterson and Barney, "Control Methods Used in a Study of the
Vowels", JASA 24(2), 1952. Leaves out words and recordings.
"""

from __future__ import annotations

import numpy as np

from hear_ssl.synthesis.engines import (
    bandpass,
    envelope,
    fast_length,
    frame_times,
    harmonic_tone,
    lowpass,
    noise_frequencies,
    shaped_noise,
)
from hear_ssl.synthesis.parameter_space import Array, Coordinate, Layout
from hear_ssl.synthesis.tones import Note, Values, sample_times, vibrato

VOWEL: Layout = (
    Coordinate("open_from", 0.0, 1.0),  # closed (low first formant) to open
    Coordinate("front_from", 0.0, 1.0),  # back (low second formant) to front
    Coordinate("open_to", 0.0, 1.0),
    Coordinate("front_to", 0.0, 1.0),
    Coordinate("tract", 0.85, 1.35, log=True),
    Coordinate("effort", 0.6, 1.8),  # exponent of the source's spectral fall: small is a pressed voice, large a soft one
    Coordinate("breath", -45.0, -8.0),
    Coordinate("consonant", -30.0, 6.0),
    Coordinate("consonant_hz", 900.0, 6500.0, log=True),
    Coordinate("attack", 0.008, 0.12, log=True),
    Coordinate("release", 0.04, 0.3, log=True),
    Coordinate("vibrato_cents", 3.0, 90.0, log=True),
    Coordinate("intonation", -5.0, 5.0),
)


def formant_response(frequencies: Array, openness: Array, frontness: Array, tract: float) -> Array:
    """Return the magnitude of a vocal tract of five formants; all arguments broadcast, tract 1 is an adult male's."""
    first = 270.0 + 560.0 * openness
    second = 800.0 + (1500.0 - 600.0 * openness) * frontness + 350.0 * openness * (1.0 - frontness)
    formants = ((first, 7.0, 1.0), (second, 11.0, 0.6), (2300.0 + 500.0 * frontness, 14.0, 0.35), (3500.0, 15.0, 0.2), (4500.0, 15.0, 0.1))
    return np.asarray(sum(gain * bandpass(frequencies, tract * center, quality) for center, quality, gain in formants) + 0.004)


def render_vowel(values: Values, note: Note) -> Array:
    """Render a syllable: a noise burst, then a glottal source and breath through formants that move between two vowels (samples,)."""
    samples = note.lasting(note.hold_seconds + values["release"])
    time = sample_times(samples, note.sample_rate)
    frames = frame_times(samples, note.sample_rate)[:, None]
    progress = np.clip(frames / max(note.hold_seconds, 0.05), 0.0, 1.0)
    progress = progress * progress * (3.0 - 2.0 * progress)
    openness = values["open_from"] + progress * (values["open_to"] - values["open_from"])
    frontness = values["front_from"] + progress * (values["front_to"] - values["front_from"])
    flutter = np.interp(time, frames[:, 0], 1.0 + 0.006 * note.rng.standard_normal(len(frames)))
    melody = 2.0 ** (values["intonation"] / 12.0 * (time / max(note.hold_seconds, 0.05) - 0.5))
    frequency = vibrato(note, time, 5.2, values["vibrato_cents"]) * flutter * melody
    m = np.arange(1, max(1, min(400, int(0.47 * note.sample_rate / frequency.min()))) + 1)
    tract = formant_response(m * note.frequency, openness, frontness, values["tract"])
    tone = harmonic_tone(frequency, tract * m ** -values["effort"], note.sample_rate)
    tone /= max(float(np.abs(tone).max()), 1e-6)
    bins = noise_frequencies(note.sample_rate)
    burst = 10.0 ** (values["consonant"] / 20.0) * np.exp(-(((frames - 0.03) / 0.03) ** 2)) * bandpass(bins, values["consonant_hz"], 1.5)
    breath = 10.0 ** (values["breath"] / 20.0) * formant_response(bins, openness, frontness, values["tract"])
    noise = shaped_noise(breath + 0.3 * burst, samples, note.sample_rate, note.rng)
    voiced = envelope(time - np.float32(0.03), values["attack"], 1.0, 1.0, note.hold_seconds, values["release"])
    return np.asarray(tone * np.maximum(voiced, 0.0) + noise * envelope(time, 0.004, 1.0, 1.0, note.hold_seconds, values["release"]))


CHIRP: Layout = (
    Coordinate("octaves_up", 1.0, 3.2),
    Coordinate("sweep_octaves", -1.8, 1.8),
    Coordinate("curve", 0.3, 3.0, log=True),
    Coordinate("trill_hz", 6.0, 45.0, log=True),
    Coordinate("trill_octaves", 0.002, 0.6, log=True),
    Coordinate("syllables", 1.0, 7.0),
    Coordinate("syllable_duty", 0.3, 0.95),
    Coordinate("overtones", -40.0, -6.0),
    Coordinate("roughness", 0.0, 0.8),
)


def render_chirp(values: Values, note: Note) -> Array:
    """Render a bird-like call: short sweeps with a trill (samples,)."""
    samples = note.lasting(max(note.hold_seconds, 0.05))
    time = sample_times(samples, note.sample_rate)
    count = min(int(values["syllables"]), max(1, int(note.hold_seconds / 0.03)))
    progress = np.mod(time * (count / (samples / note.sample_rate)), 1.0)  # 0 to 1 in every syllable
    octaves = values["octaves_up"] + values["sweep_octaves"] * (progress ** values["curve"] - 0.5)
    octaves = octaves + values["trill_octaves"] * np.sin(2.0 * np.pi * (values["trill_hz"] * time + note.rng.random()))
    highest = np.log2(0.44 * note.sample_rate / note.frequency)
    octaves -= max(0.0, float(octaves.max()) - highest)  # a call that would exceed the Nyquist frequency is transposed down
    frequency = np.maximum(note.frequency * 2.0**octaves, 50.0)
    overtone = 10.0 ** (values["overtones"] / 20.0)
    frames = len(frame_times(samples, note.sample_rate))
    tone = harmonic_tone(frequency, np.tile([1.0, overtone, overtone * 0.5], (frames, 1)), note.sample_rate)
    inside = np.clip(progress / values["syllable_duty"], 0.0, 1.0)
    rough = 1.0 - values["roughness"] * (0.5 + 0.5 * np.sin(2.0 * np.pi * 70.0 * time))
    rise = np.minimum(inside * samples / count * values["syllable_duty"] / (0.004 * note.sample_rate), 1.0)
    return np.asarray(tone * rise * np.cos(0.5 * np.pi * np.minimum(inside, 0.999)) ** 0.7 * rough)


DRUM: Layout = (
    Coordinate("sweep_octaves", 0.0, 3.0),
    Coordinate("sweep_seconds", 0.01, 0.12, log=True),
    Coordinate("decay", 0.05, 0.9, log=True),
    Coordinate("tone", -24.0, 9.0),
    Coordinate("noise_decay", 0.02, 0.6, log=True),
    Coordinate("noise_hz", 300.0, 7000.0, log=True),
    Coordinate("noise_width", 0.3, 4.0, log=True),
    Coordinate("rattle", 0.0, 1.0),
    Coordinate("hits", 1.0, 3.99),
)


def render_drum(values: Values, note: Note) -> Array:
    """Render a drum, clap or hi-hat: a falling sine and a burst of band noise, struck once or in quick succession (samples,)."""
    samples = note.lasting(1.1 * max(values["decay"], values["noise_decay"]) + 0.06)
    time = sample_times(samples, note.sample_rate)
    octaves = values["sweep_octaves"] * np.exp(time * (-3.0 / values["sweep_seconds"]))
    frequency = np.minimum(note.frequency * 0.5 * 2.0**octaves, 0.4 * note.sample_rate)
    tone = np.sin(np.cumsum(frequency) * (2.0 * np.pi / note.sample_rate)) * envelope(time, 0.001, values["decay"], 0.0, 9.0, 1.0)
    band = bandpass(noise_frequencies(note.sample_rate), values["noise_hz"], 1.0 / values["noise_width"])
    noise = shaped_noise(np.tile(band, (len(frame_times(samples, note.sample_rate)), 1)), samples, note.sample_rate, note.rng)
    strike = np.zeros(samples, dtype=np.float32)
    for hit in range(int(values["hits"])):
        late = time - np.float32(0.012 * hit)
        strike += np.where(late >= 0, envelope(np.maximum(late, 0), 0.0007, values["noise_decay"], 0.0, 9.0, 1.0), 0.0)
    strike *= 1.0 - values["rattle"] * (0.5 + 0.5 * np.sin(2.0 * np.pi * 45.0 * time))
    return np.asarray(10.0 ** (values["tone"] / 20.0) * tone + 0.5 * noise * strike)


WIND: Layout = (
    Coordinate("octaves_up", 0.0, 3.5),
    Coordinate("quality", 0.4, 25.0, log=True),
    Coordinate("gust_hz", 0.1, 4.0, log=True),
    Coordinate("gust_octaves", 0.0, 1.5),
    Coordinate("gust_db", 0.0, 24.0),
    Coordinate("second_ratio", 1.3, 5.0, log=True),
    Coordinate("second", -30.0, 0.0),
    Coordinate("rumble", -40.0, 0.0),
    Coordinate("attack", 0.005, 0.6, log=True),
    Coordinate("release", 0.05, 0.6, log=True),
)


def render_wind(values: Values, note: Note) -> Array:
    """Render noise through two resonances whose frequencies drift: wind, breath, surf, hiss (samples,)."""
    samples = note.lasting(note.hold_seconds + values["release"])
    frames = frame_times(samples, note.sample_rate)
    phase, tilt = note.rng.random(2)
    gust = 0.6 * np.sin(2.0 * np.pi * (values["gust_hz"] * frames + phase)) + 0.4 * np.sin(
        2.0 * np.pi * (values["gust_hz"] * 1.618 * frames + tilt)
    )
    center = np.clip(note.frequency * 2.0 ** (values["octaves_up"] + values["gust_octaves"] * gust), 60.0, 0.45 * note.sample_rate)[:, None]
    bins = noise_frequencies(note.sample_rate)
    response = bandpass(bins, center, values["quality"])
    response = response + 10.0 ** (values["second"] / 20.0) * bandpass(bins, center * values["second_ratio"], values["quality"])
    response = response + 10.0 ** (values["rumble"] / 20.0) * lowpass(bins, 150.0, 0.7)
    response = response * 10.0 ** (values["gust_db"] / 40.0 * (gust[:, None] - 1.0))
    time = sample_times(samples, note.sample_rate)
    return shaped_noise(response, samples, note.sample_rate, note.rng) * envelope(
        time, values["attack"], 1.0, 1.0, note.hold_seconds, values["release"]
    )


RAIN: Layout = (
    Coordinate("density_hz", 3.0, 1500.0, log=True),
    Coordinate("octaves_up", 0.0, 4.5),
    Coordinate("spread_octaves", 0.1, 2.0),
    Coordinate("grain_seconds", 0.003, 0.08, log=True),
    Coordinate("tonal", 0.0, 1.0),
    Coordinate("width", 0.1, 2.5, log=True),
    Coordinate("grain_sweep", -1.5, 1.5),
    Coordinate("dynamics", 0.1, 1.4),
    Coordinate("clumps", 0.0, 0.9),
    Coordinate("clump_hz", 0.5, 6.0, log=True),
    Coordinate("bed", -60.0, -20.0),
    Coordinate("release", 0.03, 0.3, log=True),
)
GRAIN_SHAPES = 4


def _grains(values: Values, note: Note) -> Array:
    """Return short damped sweeps blended with bursts of noise (GRAIN_SHAPES, grain samples)."""
    length = max(16, round(1.3 * values["grain_seconds"] * note.sample_rate))
    time = sample_times(length, note.sample_rate)
    octaves = values["octaves_up"] + np.linspace(-0.5, 0.5, GRAIN_SHAPES)[:, None] * values["spread_octaves"]
    sweep = values["grain_sweep"] * np.minimum(time / values["grain_seconds"], 1.0)
    frequency = np.clip(note.frequency * 2.0 ** (octaves + sweep), 40.0, 0.45 * note.sample_rate)
    tone = np.sin(np.cumsum(frequency, axis=1) * (2.0 * np.pi / note.sample_rate))
    noise = note.rng.standard_normal((GRAIN_SHAPES, length))
    return np.asarray(
        (values["tonal"] * tone + (1.0 - values["tonal"]) * 0.5 * noise) * envelope(time, 4e-4, values["grain_seconds"], 0.0, 9.0, 1.0)
    )


def render_rain(values: Values, note: Note) -> Array:
    """Render many small grains at random times over background noise: rain, crackle, gravel, applause, bubbles (samples,)."""
    samples = note.lasting(note.hold_seconds)
    seconds = samples / note.sample_rate
    count = max(1, int(note.rng.poisson(values["density_hz"] * seconds)))
    onsets = note.rng.random(count)
    turns = max(1.0, round(values["clump_hz"] * seconds))
    onsets = onsets + values["clumps"] * np.sin(2.0 * np.pi * turns * onsets) / (
        2.0 * np.pi * turns
    )  # monotone: grains are dense where the curve is flat
    position = np.minimum((np.clip(onsets, 0.0, 1.0) * samples).astype(np.int64), samples - 1)
    loudness = np.exp(values["dynamics"] * note.rng.standard_normal(count))
    shape = note.rng.integers(0, GRAIN_SHAPES, count)
    grains = _grains(values, note)
    length = fast_length(samples + grains.shape[1])
    hits = np.bincount(shape * length + position, loudness, GRAIN_SHAPES * length).reshape(GRAIN_SHAPES, length).astype(np.float32)
    spectrum = (np.fft.rfft(hits, axis=1) * np.fft.rfft(grains.astype(np.float32), n=length, axis=1)).sum(axis=0)
    sound = np.fft.irfft(spectrum, n=length)[:samples].astype(np.float32)
    time = sample_times(samples, note.sample_rate)
    bed = 10.0 ** (values["bed"] / 20.0) * float(np.abs(sound).max()) * note.rng.standard_normal(samples, dtype=np.float32)
    return np.asarray((sound + bed) * envelope(time, 0.002, 1.0, 1.0, max(note.hold_seconds - values["release"], 0.0), values["release"]))


MOTOR: Layout = (
    Coordinate("octaves_down", 1.0, 3.6),
    Coordinate("rev_semitones", -9.0, 9.0),
    Coordinate("wobble_hz", 0.3, 9.0, log=True),
    Coordinate("wobble_semitones", 0.02, 2.0, log=True),
    Coordinate("fall", 0.2, 1.6),
    Coordinate("odd", 0.0, 1.0),
    Coordinate("resonance_hz", 120.0, 1800.0, log=True),
    Coordinate("second_hz", 600.0, 5000.0, log=True),
    Coordinate("resonance_db", 0.0, 24.0),
    Coordinate("noise", -40.0, 0.0),
    Coordinate("firing", 0.0, 1.0),
    Coordinate("attack", 0.01, 0.4, log=True),
    Coordinate("release", 0.03, 0.5, log=True),
)


def render_motor(values: Values, note: Note) -> Array:
    """Render a low buzz through the resonances of a housing, with noise modulated at the firing rate (samples,)."""
    samples = note.lasting(note.hold_seconds + values["release"])
    time = sample_times(samples, note.sample_rate)
    rev = values["rev_semitones"] * (time / max(note.hold_seconds, 0.1) - 0.5)
    wobble = values["wobble_semitones"] * np.sin(2.0 * np.pi * (values["wobble_hz"] * time + note.rng.random()))
    frequency = note.frequency * 2.0 ** ((rev + wobble) / 12.0 - values["octaves_down"])
    center = float(frequency.mean())
    m = np.arange(1, max(2, min(400, int(0.47 * note.sample_rate / frequency.min()))) + 1)
    housing = bandpass(m * center, values["resonance_hz"], 4.0) + 0.6 * bandpass(m * center, values["second_hz"], 5.0)
    comb = np.where(m % 2 == 1, 1.0, 1.0 - 0.9 * values["odd"])
    amplitudes = m ** -values["fall"] * comb * (1.0 + (10.0 ** (values["resonance_db"] / 20.0) - 1.0) * housing)
    frames = len(frame_times(samples, note.sample_rate))
    tone = harmonic_tone(frequency, np.tile(amplitudes, (frames, 1)), note.sample_rate, phases=note.rng.random(len(m)) * 2.0 * np.pi)
    tone /= max(float(np.abs(tone).max()), 1e-6)
    band = bandpass(noise_frequencies(note.sample_rate), values["second_hz"], 0.7)
    noise = shaped_noise(np.tile(band, (frames, 1)), samples, note.sample_rate, note.rng)
    beat = 1.0 - values["firing"] * (0.5 + 0.5 * np.sin(2.0 * np.pi * np.cumsum(frequency) / note.sample_rate))
    sound = tone + 0.5 * 10.0 ** (values["noise"] / 20.0) * noise * beat
    return np.asarray(sound * envelope(time, values["attack"], 1.0, 1.0, note.hold_seconds, values["release"]))
