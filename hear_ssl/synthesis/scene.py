"""Render a clip from a parameter vector: phrase, chord, room, background, level.

Every kind of sound shares the coordinates of PHRASE; the pattern of notes is a function of the parameter vector alone, so
that the patterns of a pair differ only as far as its vectors do. Noise (bursts, hiss, phases, the room's tail) comes from the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hear_ssl.synthesis import sounds, tones
from hear_ssl.synthesis.engines import LN_60_DB, fast_length, frame_times, noise_frequencies, shaped_noise
from hear_ssl.synthesis.parameter_space import Array, Coordinate, Layout, decode
from hear_ssl.synthesis.tones import Note, Renderer, Values

PHRASE: Layout = (
    Coordinate("seconds", 2.0, 8.0),
    Coordinate("lead", 0.0, 0.15),
    Coordinate("midi", 38.0, 84.0),
    Coordinate("rate_hz", 0.5, 8.0, log=True),
    Coordinate("held", 0.2, 1.4, log=True),  # share of the time to the next note
    Coordinate("filled", 0.25, 1.0),  # share of steps that sound
    Coordinate("swing", 0.0, 0.35),
    Coordinate("melody_semitones", 0.0, 12.0),
    Coordinate("melody_rate", 0.05, 0.5),
    Coordinate("melody_phase", 0.0, 1.0),
    Coordinate("chord", 0.3, 3.3),
    Coordinate("chord_semitones", 3.0, 7.99),
    Coordinate("accent_db", 0.0, 10.0),
    Coordinate("swell_db", -12.0, 12.0),
    Coordinate("drive_db", -14.0, 16.0),  # into soft saturation
    Coordinate("room_seconds", 0.08, 1.5, log=True),
    Coordinate("room", -40.0, -2.0),
    Coordinate("tilt_db", -3.0, 3.0),  # per octave
    Coordinate("background", -80.0, -26.0),
    Coordinate("background_slope", -1.4, 0.2),
    Coordinate("peak_db", -24.0, -1.0),
)
KINDS: dict[str, tuple[Layout, Renderer]] = {
    "voice": (tones.VOICE, tones.render_voice),
    "fm": (tones.FM, tones.render_fm),
    "string": (tones.STRING, tones.render_string),
    "struck": (tones.STRUCK, tones.render_struck),
    "vowel": (sounds.VOWEL, sounds.render_vowel),
    "chirp": (sounds.CHIRP, sounds.render_chirp),
    "drum": (sounds.DRUM, sounds.render_drum),
    "wind": (sounds.WIND, sounds.render_wind),
    "rain": (sounds.RAIN, sounds.render_rain),
    "motor": (sounds.MOTOR, sounds.render_motor),
}
LOWEST_HZ = 15.0  # a microphone does not record constant pressure: -6 dB here, -12 dB per octave below
SCORE = tuple(coordinate.name for coordinate in PHRASE[:12])  # what is played and when; the rest of PHRASE is articulation, room and level
PITCHED = ("voice", "fm", "string", "struck", "vowel")
CONTINUOUS = ("wind", "rain", "motor")  # mostly one long sound instead of a phrase
BALANCE: Layout = (Coordinate("balance_db", -14.0, 14.0),)


def layout_of(kind: str) -> Layout:
    """Return the coordinates of a kind, 'NAME' or 'NAME+NAME' for two sounds at once. Raises ValueError on an unknown name."""
    names = kind.split("+")
    if len(names) > 2 or any(name not in KINDS for name in names):
        raise ValueError(f"unknown kind of sound {kind!r}: one of {', '.join(KINDS)}, or two of them joined by '+'")
    layers = [PHRASE + KINDS[name][0] for name in names]
    return layers[0] if len(layers) == 1 else layers[0] + layers[1] + BALANCE


def clip_seconds(parameters: Array) -> float:
    """Return the seconds of the clip of a parameter vector without rendering it."""
    return PHRASE[0].value(float(parameters[0]))


def render(kind: str, parameters: Sequence[float] | Array, seed: int, sample_rate: int = 16000) -> Array:
    """Render a sound; returns a waveform (time,), float32, at most 0.9 in magnitude.

    The same arguments give the same waveform. Raises ValueError on an unknown kind or a vector that does not fit its layout.
    """
    layout = layout_of(kind)
    vector = np.asarray(parameters, dtype=np.float64)
    decode(layout, vector)
    names = kind.split("+")
    streams = np.random.SeedSequence(seed).spawn(len(names))
    split = len(PHRASE) + len(KINDS[names[0]][0])
    first = _render_layer(names[0], vector[:split], np.random.default_rng(streams[0]), sample_rate)
    if len(names) == 1:
        return first
    second = _render_layer(names[1], vector[split:-1], np.random.default_rng(streams[1]), sample_rate)
    second = np.pad(second, (0, max(0, len(first) - len(second))))[: len(first)]
    gain = 10.0 ** (BALANCE[0].value(float(vector[-1])) / 20.0)
    peak = float(np.abs(first).max())
    mixed = first + second * (gain * peak / max(float(np.abs(second).max()), 1e-9))
    return np.asarray(mixed * (peak / float(np.abs(mixed).max())), dtype=np.float32)


def render_note(kind: str, values: Values, note: Note) -> Array:
    """Render one note of a kind, its peak scaled to 1, faded over its last 5 ms (samples,)."""
    sound = np.array(KINDS[kind][1](values, note), dtype=np.float32)
    fade = min(len(sound), round(0.005 * note.sample_rate))
    sound[len(sound) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.asarray(sound / np.float32(max(float(np.abs(sound).max()), 1e-6)))


def pattern(values: Values, continuous: bool) -> list[tuple[float, float, float, float]]:
    """Return the notes of a phrase as (onset in seconds, semitones above the base pitch, gain, hold in seconds)."""
    seconds, lead = values["seconds"], values["lead"]
    if continuous and values["filled"] < 0.75:
        return [(lead, 0.0, 1.0, seconds - lead)]
    interval = min(1.0 / values["rate_hz"], 0.8 * (seconds - lead))
    notes: list[tuple[float, float, float, float]] = []
    for step in range(int((seconds - lead - 0.05) / interval) + 1):
        if step and int((step + 1) * values["filled"]) == int(step * values["filled"]):
            continue
        onset = lead + interval * (step + (values["swing"] if step % 2 else 0.0))
        turn = (values["melody_rate"] * step + values["melody_phase"]) % 1.0
        semitones = round(values["melody_semitones"] * (4.0 * abs(turn - 0.5) - 1.0) / 2.0)
        gain_db = -values["accent_db"] * (step % 3 != 0) + values["swell_db"] * (onset / seconds - 0.5)
        if onset < seconds - 0.03:
            notes.append((onset, float(semitones), float(10.0 ** (gain_db / 20.0)), max(values["held"] * interval, 0.04)))
    return notes


def _render_layer(kind: str, vector: Array, rng: np.random.Generator, sample_rate: int) -> Array:
    """Render one phrase with its room and background (time,)."""
    phrase = decode(PHRASE, vector[: len(PHRASE)])
    values = decode(KINDS[kind][0], vector[len(PHRASE) :])
    samples = round(phrase["seconds"] * sample_rate)
    dry = np.zeros(samples, dtype=np.float32)
    chord_notes = 1 if kind in ("drum", *CONTINUOUS) else max(1, round(phrase["chord"]))
    rendered: dict[float, Array] = {}  # a pitch is rendered once per phrase, as in a sampler
    for onset, semitones, gain, hold in pattern(phrase, kind in CONTINUOUS):
        start = round(onset * sample_rate)
        for number in range(chord_notes):
            midi = phrase["midi"] + semitones + number * int(phrase["chord_semitones"])
            if midi not in rendered:
                rendered[midi] = render_note(kind, values, Note(midi, hold, samples - start, sample_rate, rng))
            sound = rendered[midi][: samples - start]
            dry[start : start + len(sound)] += np.float32(gain) * sound
    drive = 10.0 ** (phrase["drive_db"] / 20.0) / max(float(np.abs(dry).max()), 1e-9)
    return _add_room(np.tanh(np.float32(drive) * dry), phrase, rng, sample_rate)


def _add_room(dry: Array, phrase: Values, rng: np.random.Generator, sample_rate: int) -> Array:
    """Add reverberation, spectral tilt and background noise, and scale to the peak, in one pass through the frequency domain (time,)."""
    tail = room_response(phrase["room_seconds"], sample_rate, rng)
    length = fast_length(len(dry) + len(tail))
    frequencies = np.fft.rfftfreq(length, 1.0 / sample_rate)
    octaves = np.log2(np.maximum(frequencies, 40.0) / 1000.0).astype(np.float32)
    direct = np.fft.rfft(dry, n=length)
    wet = direct * (1.0 + np.float32(10.0 ** (phrase["room"] / 20.0)) * np.fft.rfft(tail, n=length))
    wet *= np.exp(octaves * np.float32(phrase["tilt_db"] * np.log(10.0) / 20.0))
    wet *= (frequencies**2 / (frequencies**2 + LOWEST_HZ**2)).astype(np.float32)
    noise = rng.standard_normal(2 * len(wet), dtype=np.float32).view(np.complex64)
    colour = np.exp(octaves * np.float32(phrase["background_slope"] * np.log(2.0)))
    loudness = float(np.abs(dry).max()) * 10.0 ** (phrase["background"] / 20.0) * length
    wet += noise * colour * np.float32(loudness / np.sqrt(4.0 * float(np.sum(colour**2))))
    clip = np.fft.irfft(wet, n=length)[: len(dry)]
    level = 10.0 ** (phrase["peak_db"] / 20.0)
    return np.asarray(clip * (level / max(float(np.abs(clip).max()), 1e-9)), dtype=np.float32)


def room_response(seconds: float, sample_rate: int, rng: np.random.Generator) -> Array:
    """Return a room's tail: noise that falls by 60 dB in `seconds` below 1 kHz and up to three times as fast above (time,)."""
    samples = round(min(seconds, 1.5) * sample_rate)
    times = frame_times(samples, sample_rate)[:, None]
    speed = 1.0 + np.minimum(noise_frequencies(sample_rate) / 4000.0, 2.0)
    tail = shaped_noise(np.exp(times * (-LN_60_DB / seconds) * speed), samples, sample_rate, rng)
    return tail / np.float32(np.sqrt(float(np.sum(tail**2))))
