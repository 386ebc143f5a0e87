"""Build dev_timgm_notes: notes of two instruments at once, transcribed, where the four development tasks have only hits of drums.

python examples/reference/note_task.py REALAUDIO AUDIO TASKS

REALAUDIO holds heartask.py, AUDIO the sound font TimGM6mb's package, which is test data. Clips of 20 s, 25 pitches, no instrument in two
splits; scored by note onsets within 50 ms. Needs numpy, soundfile, soxr, pretty_midi and the program fluidsynth.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RATE, SECONDS = 16000, 20.0
PITCHES = range(48, 73)
CLIPS = {"train": 30, "valid": 8, "test": 14}
PROGRAMS = {"train": (0, 1, 3, 4, 6), "valid": (5,), "test": (2, 7)}  # by remainder of 8


def voice(rng: random.Random, programs: list[int]) -> tuple[int, list[tuple[int, int, float, float]]]:
    """Return an instrument and notes (velocity, pitch, start, end in seconds), one after the other with gaps."""
    notes, start = [], rng.uniform(0.2, 1.0)
    program = rng.choice(programs)
    while start < 18.5:
        pitch, length = rng.choice(PITCHES), rng.uniform(0.15, 0.8)
        notes.append((rng.choice([60, 90, 115]), pitch, start, start + length))
        start += length + rng.uniform(0.02, 0.4)
    return program, notes


def play(voices: list[tuple[int, list[tuple[int, int, float, float]]]], font: Path, folder: Path) -> Path:
    """Write the voices as a WAV file and return its path."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(initial_tempo=120)
    for program, notes in voices:
        instrument = pretty_midi.Instrument(program=program)
        instrument.notes = [pretty_midi.Note(*note) for note in notes]
        midi.instruments.append(instrument)
    midi.write(str(folder / "a.mid"))
    options = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(RATE), "-T", "wav"]
    subprocess.run(["fluidsynth", *options, "-F", str(folder / "a.wav"), str(font), str(folder / "a.mid")], check=True, capture_output=True)
    return folder / "a.wav"


def main() -> None:
    realaudio, audio, tasks = map(Path, sys.argv[1:4])
    sys.path.insert(0, str(realaudio))
    from heartask import Task, read_mono

    font = audio / "timgm6mb-soundfont/usr/share/sounds/sf2/TimGM6mb.sf2"
    rng, splits = random.Random(0), {}
    for split, count in CLIPS.items():
        programs = [program for program in range(96) if program % 8 in PROGRAMS[split]]
        clips: list[Any] = []
        for number in range(count):
            voices = [voice(rng, programs) for _ in range(2)]
            events = [
                {"label": str(pitch), "start": start * 1000, "end": end * 1000} for _, notes in voices for _, pitch, start, end in notes
            ]
            with tempfile.TemporaryDirectory() as folder:
                clips.append((f"{split}{number:03d}.wav", events, read_mono(play(voices, font, Path(folder)), RATE), RATE))
        splits[split] = clips
    grid = {"event_postprocessing_grid": {"median_filter_ms": [100], "min_duration": [50]}}
    labels = [str(pitch) for pitch in PITCHES]
    scores = ["event_onset_50ms_fms", "event_onset_200ms_fms", "segment_1s_er"]
    task = Task("dev_timgm_notes", "event", "multilabel", "trainvaltest", SECONDS, scores, labels, evaluation_params=grid)
    task.write(tasks, splits)


if __name__ == "__main__":
    main()
