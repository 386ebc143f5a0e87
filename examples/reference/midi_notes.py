"""Render notes with a sound font: write a standard MIDI file and render it by the program fluidsynth.

Standard MIDI Files 1.0: https://midi.org/standard-midi-files. Files contain only notes and one program per voice.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from examples.reference.hear_task import SAMPLE_RATE, Array, read_mono

TICKS_PER_BEAT, BEATS_PER_MINUTE = 220, 120
TICKS_PER_SECOND = TICKS_PER_BEAT * BEATS_PER_MINUTE // 60
DRUM_CHANNEL = 9


class Note(NamedTuple):
    """A key of velocity 1 to 127 and MIDI pitch 0 to 127, held from `start` to `end` in seconds."""

    velocity: int
    pitch: int
    start: float
    end: float


class Voice(NamedTuple):
    """One instrument (General MIDI program, 0 to 127) and its notes."""

    program: int
    notes: list[Note]


def variable_length(number: int) -> bytes:
    """Return a number in MIDI's variable-length form: seven bits per byte, the high bit set in all but the last."""
    found = [number & 0x7F]
    while number := number >> 7:
        found.insert(0, number & 0x7F | 0x80)
    return bytes(found)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a MIDI file: its kind, length and content."""
    return kind + len(content).to_bytes(4, "big") + content


def track(channel: int, voice: Voice) -> bytes:
    """Return the track chunk of a voice; a note-on event of velocity 0 releases a key."""
    events = []
    for note in voice.notes:
        events.append((round(note.start * TICKS_PER_SECOND), note.pitch, note.velocity))
        events.append((round(note.end * TICKS_PER_SECOND), note.pitch, 0))
    content, now = bytes([0, 0xC0 | channel, voice.program]), 0
    for tick, pitch, velocity in sorted(events):  # at the same tick, a key is released before it is pressed again
        content += variable_length(tick - now) + bytes([0x90 | channel, pitch, velocity])
        now = tick
    return chunk(b"MTrk", content + b"\x01\xff\x2f\x00")


def midi_file(voices: list[Voice]) -> bytes:
    """Return a standard MIDI file of format 1 with a track for the tempo and one for each voice, at most 15 of them."""
    assert len(voices) <= 15
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    tempo = b"\x00\xff\x51\x03" + (60_000_000 // BEATS_PER_MINUTE).to_bytes(3, "big")  # microseconds per beat
    tracks = [chunk(b"MTrk", tempo + b"\x01\xff\x2f\x00"), *map(track, channels, voices)]
    head = b"".join(number.to_bytes(2, "big") for number in (1, len(tracks), TICKS_PER_BEAT))
    return chunk(b"MThd", head) + b"".join(tracks)


def render(voices: list[Voice], font: Path) -> Array:
    """Return voices as a waveform (time,) at 16 kHz, without reverberation and chorus.

    Raises ValueError when the sound font or the program fluidsynth is missing, or fluidsynth fails.
    """
    if not font.is_file():
        raise ValueError(f"{font} is missing; fetch it: python -m examples.reference.fetch_audio AUDIO")
    options = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(SAMPLE_RATE), "-T", "wav"]
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "notes.mid"), Path(folder, "notes.wav")
        score.write_bytes(midi_file(voices))
        try:
            done = subprocess.run(["fluidsynth", *options, "-F", sound, font, score], capture_output=True, text=True)
        except FileNotFoundError:
            raise ValueError("the program fluidsynth is missing; install it: apt-get install fluidsynth") from None
        if done.returncode or not sound.is_file():
            raise ValueError(f"fluidsynth cannot play {font}: {' '.join(done.stderr.split())[-200:]}")
        return read_mono(sound)
