"""Build dev_timgm_programs and dev_timgm_families: who plays, where the development task on the same notes asks for the pitch.

python examples/reference/timbre_task.py REALAUDIO TASKS TASKS_TIMBRE

REALAUDIO holds heartask.py, TASKS dev_timgm_pitch, which build.py makes there of a sound font that is test data. Programs: 104 instruments,
told by notes that the predictor has not heard of them, from eight or nine that it has. Families: thirteen, eight programs each, told by
programs that it has not heard. Needs numpy, soundfile, soxr.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

RATE, SECONDS, SPLITS = 16000, 2.0, ("train", "valid", "test")
FAMILIES = ["piano", "chromatic", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe", "lead", "pad", "effects"]
ROUND = ("train", "test", "train", "valid", "train")  # splits that the notes of a program go to, from low to high
Clip = tuple[str, str, Any, int]


def main() -> None:
    realaudio, tasks, out = map(Path, sys.argv[1:4])
    sys.path.insert(0, str(realaudio))
    from heartask import Task, read_mono

    notes = tasks / "dev_timgm_pitch-v1-full"
    families: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    programs: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    of_program: dict[int, list[tuple[int, str, Any]]] = defaultdict(list)
    for split in SPLITS:
        for name in json.loads((notes / f"{split}.json").read_text()):
            program, note = map(int, re.findall(r"\d+", name)[:2])
            audio = read_mono(notes / str(RATE) / split / name, RATE)
            families[split].append((name, FAMILIES[program // 8], audio, RATE))
            of_program[program].append((note, name, audio))
    for program, played in sorted(of_program.items()):
        for number, (_, name, audio) in enumerate(sorted(played, key=lambda one: one[0])):
            programs[ROUND[number % len(ROUND)]].append((name, f"p{program:03d}", audio, RATE))
    for kind, splits in (("programs", programs), ("families", families)):
        labels = sorted({label for clips in splits.values() for _, label, _, _ in clips})
        Task(f"dev_timgm_{kind}", "scene", "multiclass", "trainvaltest", SECONDS, ["top1_acc"], labels).write(out, splits)


if __name__ == "__main__":
    main()
