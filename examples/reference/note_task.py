"""Build dev_timgm_notes: onsets and pitches of two simultaneous instruments; the four development tasks have only onsets of drums.

    python -m examples.reference.note_task AUDIO TASKS_NOTES

AUDIO is the folder of `fetch_audio.py`; the sound font TimGM6mb in it is test data. Clips of 20 s, 25 pitches, no instrument in two
splits; scored by note onsets within 50 ms. Needs the program fluidsynth.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from examples.reference.build_tasks import FONT, ONSET_PARAMETERS, ONSET_SCORES, package_folder
from examples.reference.hear_task import Clip, Event, Task
from examples.reference.midi_notes import Note, Voice, render
from hear_ssl.errors import run_main

PITCHES = range(48, 73)
LABELS = [str(pitch) for pitch in PITCHES]
CLIPS = {"train": 30, "valid": 8, "test": 14}
PROGRAMS = {"train": (0, 1, 3, 4, 6), "valid": (5,), "test": (2, 7)}  # by remainder of 8
TASK = Task("dev_timgm_notes", "event", "multilabel", "trainvaltest", 20.0, ONSET_SCORES, LABELS, ONSET_PARAMETERS)


def draw_voice(rng: random.Random, programs: list[int]) -> Voice:
    """Return an instrument with notes that do not overlap, for 20 s."""
    notes, start = [], rng.uniform(0.2, 1.0)
    program = rng.choice(programs)
    while start < 18.5:
        pitch, length = rng.choice(PITCHES), rng.uniform(0.15, 0.8)
        notes.append(Note(rng.choice([60, 90, 115]), pitch, start, start + length))
        start += length + rng.uniform(0.02, 0.4)
    return Voice(program, notes)


def events_of(voices: list[Voice]) -> list[Event]:
    """Return an event for each note of the voices."""
    return [{"label": str(note.pitch), "start": note.start * 1000, "end": note.end * 1000} for voice in voices for note in voice.notes]


def draw_clips(font: Path) -> dict[str, list[Clip]]:
    """Return the clips of each split, two voices each."""
    rng = random.Random(0)
    splits: dict[str, list[Clip]] = {split: [] for split in CLIPS}
    for split, count in CLIPS.items():
        programs = [program for program in range(96) if program % 8 in PROGRAMS[split]]
        for number in range(count):
            voices = [draw_voice(rng, programs) for _ in range(2)]
            splits[split].append(Clip(f"{split}{number:03d}.wav", events_of(voices), render(voices, font)))
    return splits


def main() -> int:
    """Build the task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder of fetch_audio.py")
    parser.add_argument("tasks", type=Path, metavar="TASKS_NOTES", help="folder to write to")
    given = parser.parse_args()
    TASK.check_new(given.tasks)
    TASK.write(given.tasks, draw_clips(package_folder(given.audio, "timgm6mb-soundfont") / FONT))
    return 0


if __name__ == "__main__":
    run_main(main)
