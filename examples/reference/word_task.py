"""Build dev_flite_words: 36 words that voices never heard before say, where the development tasks have no words.

python examples/reference/word_task.py REALAUDIO TASKS_WORDS

REALAUDIO holds heartask.py. Four voices of the program flite (Debian: flite), a fold each; every word six times a voice, at another
speed and pitch, in a vocal tract of another size, amid noise. No voice of flite is among what spoken_pairs.py renders. Needs numpy,
soundfile, soxr.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

RATE, SECONDS, SAYINGS = 16000, 1.0, 6
PITCHES = {"kal16": 105, "awb": 120, "rms": 95, "slt": 180}  # Hz, of each voice
COUNTED = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "forward", "backward", "follow", "learn", "visual"]
THINGS = ["bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"]


def say(word: str, voice: str, rng: np.random.Generator, file: Path) -> Any:
    """Return a clip (time,) with the word somewhere in it; `file` is overwritten."""
    stretch, pitch = rng.uniform(0.85, 1.25), PITCHES[voice] * rng.uniform(0.9, 1.1)
    options = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={pitch:.0f}"]
    subprocess.run(["flite", "-voice", voice, *options, "-t", word, str(file)], check=True)
    waveform, rate = soundfile.read(file, dtype="float32")
    waveform = soxr.resample(waveform, rate, RATE * float(np.exp(rng.uniform(-0.08, 0.08))))
    loud = np.nonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())[0]
    waveform = waveform[loud[0] : loud[-1] + 1][: RATE - 1000]
    clip = rng.standard_normal(RATE) * 10.0 ** rng.uniform(-3.5, -2.2)
    start = int(rng.integers(0, RATE - len(waveform)))
    clip[start : start + len(waveform)] += waveform / np.abs(waveform).max() * 0.5
    return clip.astype(np.float32)


def main() -> None:
    realaudio, tasks = map(Path, sys.argv[1:3])
    sys.path.insert(0, str(realaudio))
    from heartask import Task

    rng, words, folds = np.random.default_rng(0), [*COUNTED, *COMMANDS, *THINGS], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, voice in enumerate(PITCHES):
            sayings = [(word, place) for word in words for place in range(SAYINGS)]
            clips = [(f"{voice}_{word}_{place}.wav", word, say(word, voice, rng, Path(folder) / "a.wav"), RATE) for word, place in sayings]
            folds[f"fold{number:02d}"] = clips
    task = Task("dev_flite_words", "scene", "multiclass", "new_split_kfold", SECONDS, ["top1_acc"], words)
    task.write(tasks, folds)


if __name__ == "__main__":
    main()
