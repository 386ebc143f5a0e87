"""Build dev_flite_words: 36 words spoken by voices that the predictor was not trained on; the development tasks have no words.

    python -m examples.reference.word_task TASKS_WORDS

Four voices of the program flite, one fold each. Each voice speaks every word six times, with random duration, pitch and vocal tract
length, in noise. `spoken_pairs.py` uses no voice of flite. Needs the program flite (apt-get install flite).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from examples.reference.hear_task import SAMPLE_RATE, Array, Clip, Task
from hear_ssl.errors import run_main

REPETITIONS = 6
PITCHES = {"kal16": 105, "awb": 120, "rms": 95, "slt": 180}  # Hz, of each voice
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "forward", "backward", "follow", "learn", "visual"]
THINGS = ["bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"]
WORDS = [*DIGITS, *COMMANDS, *THINGS]
TASK = Task("dev_flite_words", "scene", "multiclass", "new_split_kfold", 1.0, ["top1_acc"], WORDS)


def speak(word: str, voice: str, rng: np.random.Generator, file: Path) -> Array:
    """Return a clip (time,) of 1 s with the word at a random position; `file` is overwritten.

    Raises ValueError when flite is missing or fails.
    """
    stretch, pitch = rng.uniform(0.85, 1.25), PITCHES[voice] * rng.uniform(0.9, 1.1)
    options = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={pitch:.0f}"]
    try:
        subprocess.run(["flite", "-voice", voice, *options, "-t", word, str(file)], check=True)
    except FileNotFoundError:
        raise ValueError("the program flite is missing; install it: apt-get install flite") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"flite cannot speak {word!r} with the voice {voice}: exit status {error.returncode}") from None
    waveform, rate = soundfile.read(file, dtype="float32")
    waveform = soxr.resample(waveform, rate, SAMPLE_RATE * float(np.exp(rng.uniform(-0.08, 0.08))))  # vocal tract length
    loud = np.nonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())[0]
    waveform = waveform[loud[0] : loud[-1] + 1][: SAMPLE_RATE - 1000]
    clip: Array = rng.standard_normal(SAMPLE_RATE) * 10.0 ** rng.uniform(-3.5, -2.2)
    start = int(rng.integers(0, SAMPLE_RATE - len(waveform)))
    clip[start : start + len(waveform)] += waveform / np.abs(waveform).max() * 0.5
    return clip.astype(np.float32)


def speak_words() -> dict[str, list[Clip]]:
    """Return a fold of clips for each voice."""
    rng, folds = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.wav"
        for number, voice in enumerate(PITCHES):
            pairs = [(word, repetition) for word in WORDS for repetition in range(REPETITIONS)]
            folds[f"fold{number:02d}"] = [
                Clip(f"{voice}_{word}_{repetition}.wav", word, speak(word, voice, rng, file)) for word, repetition in pairs
            ]
    return folds


def main() -> int:
    """Build the task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, metavar="TASKS_WORDS", help="folder to write to")
    given = parser.parse_args()
    TASK.check_new(given.tasks)
    TASK.write(given.tasks, speak_words())
    return 0


if __name__ == "__main__":
    run_main(main)
