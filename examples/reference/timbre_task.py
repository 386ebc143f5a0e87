"""Build dev_timgm_programs and dev_timgm_families: classify the instrument of the notes in dev_timgm_pitch.

    python -m examples.reference.timbre_task TASKS TASKS_TIMBRE

TASKS contains dev_timgm_pitch, which `build_tasks.py` builds from a sound font that is test data.
Programs: 104 instruments, tested on notes that the predictor was not trained on; it was trained on eight or nine other notes of each.
Families: thirteen families of eight programs, tested on programs that the predictor was not trained on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

from examples.reference.hear_task import SAMPLE_RATE, Clip, Task, read_mono
from hear_ssl.errors import run_main

SECONDS, SPLITS = 2.0, ("train", "valid", "test")
FAMILIES = ["piano", "chromatic", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe", "lead", "pad", "effects"]
NOTE_SPLITS = ("train", "test", "train", "valid", "train")  # of the notes of a program from low to high, in turn
Splits = dict[str, list[Clip]]


def pitch_clips(notes: Path) -> Splits:
    """Return the clips of dev_timgm_pitch by split. Raises ValueError when the task is missing."""
    if not notes.is_dir():
        raise ValueError(f"{notes} is missing; build it: python -m examples.reference.build_tasks AUDIO {notes.parent}")
    splits: Splits = {}
    for split in SPLITS:
        names = json.loads((notes / f"{split}.json").read_text())
        splits[split] = [Clip(name, "", read_mono(notes / str(SAMPLE_RATE) / split / name)) for name in names]
    return splits


def program_and_note(clip: Clip) -> tuple[int, int]:
    """Return the program and the pitch in a file name such as p003.n060.wav."""
    program, note = map(int, re.findall(r"\d+", clip.file)[:2])
    return program, note


def by_family(clips: Splits) -> Splits:
    """Return the same splits, labelled with the family of the instrument."""
    return {split: [clip._replace(label=FAMILIES[program_and_note(clip)[0] // 8]) for clip in clips[split]] for split in SPLITS}


def by_program(clips: Splits) -> Splits:
    """Return splits that each contain notes of all instruments, labelled with the instrument."""
    of_program: dict[int, list[Clip]] = defaultdict(list)
    for clip in (clip for split in SPLITS for clip in clips[split]):
        of_program[program_and_note(clip)[0]].append(clip)
    splits: Splits = {split: [] for split in SPLITS}
    for program, played in sorted(of_program.items()):
        for number, clip in enumerate(sorted(played, key=program_and_note)):
            splits[NOTE_SPLITS[number % len(NOTE_SPLITS)]].append(clip._replace(label=f"p{program:03d}"))
    return splits


def main() -> int:
    """Build both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, metavar="TASKS", help="folder of build_tasks.py")
    parser.add_argument("out", type=Path, metavar="TASKS_TIMBRE", help="folder to write to")
    given = parser.parse_args()
    clips = pitch_clips(given.tasks / "dev_timgm_pitch-v1-full")
    for kind, splits in (("programs", by_program(clips)), ("families", by_family(clips))):
        labels = sorted({str(clip.label) for split in splits.values() for clip in split})
        Task(f"dev_timgm_{kind}", "scene", "multiclass", "trainvaltest", SECONDS, ["top1_acc"], labels).write(given.out, splits)
    return 0


if __name__ == "__main__":
    run_main(main)
