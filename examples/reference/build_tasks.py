"""Build the four development tasks in HEAR 2021 format from the audio of Debian packages.

    python -m examples.reference.build_tasks AUDIO TASKS

AUDIO is the folder of `fetch_audio.py`. The packages of these tasks are test data: no encoder may train on them. A task that is under
TASKS already is skipped. Needs the program fluidsynth (apt-get install fluidsynth).

dev_hydrogen_drums         kind of drum, by kits that the predictor was not trained on (five folds)
dev_timgm_pitch            pitch of a note, by instruments that the predictor was not trained on
dev_ktuberling_language    language of a spoken word
dev_drum_events            onset and kind of each drum hit in noise, by kits that the predictor was not trained on
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.reference.hear_task import SAMPLE_RATE, Array, Clip, Event, Task, group_folds, read_mono, scaled_to_peak, trimmed
from examples.reference.midi_notes import Note, Voice, render
from hear_ssl.errors import run_main

DRUMS = {  # patterns in a file's name; the first matching kind is used
    "kick": r"kick|bd|bass ?drum|kik",
    "snare": r"snare|^sn",
    "hihat_closed": r"(hat|hh).*(cl|tight)|chh|closed",
    "hihat_open": r"(hat|hh).*op|ohh|open",
    "tom": r"tom|^tm",
    "crash": r"crash|splash|china",
    "ride": r"ride|^rd",
    "cowbell": r"cowbell|^cb",
    "conga": r"conga|bongo|djembe|cajon|udu",
}
EVENT_LABELS = ("cowbell", "crash", "hihat_closed", "hihat_open", "kick", "ride", "snare", "tom")
EVENT_COUNTS = {"train": 30, "valid": 8, "test": 14}
EVENT_SECONDS = 20
PITCHES = range(36, 85)
PROGRAMS = range(104)  # of General MIDI: all but percussion and sound effects
NOTES_PER_PROGRAM, NOTE_SECONDS, NOTE_HOP_SECONDS = 14, 2.0, 4.0
FONT = "usr/share/sounds/sf2/TimGM6mb.sf2"
LANGUAGES = ("ca", "da", "de", "el", "en", "fr", "gl", "lt", "nn", "ru", "sl", "uk", "wa")
LANGUAGE_SPLITS = ("train", "test", "train", "valid", "train")  # of the shuffled files of a language, in turn
Splits = dict[str, list[Clip]]
Hits = list[tuple[str, Path]]  # kind of drum and recording


def package_folder(audio: Path, package: str) -> Path:
    """Return the folder of a package. Raises ValueError when it is missing."""
    if not (audio / package).is_dir():
        raise ValueError(f"{audio / package} is missing; fetch it: python -m examples.reference.fetch_audio {audio} {package}")
    return audio / package


def wav_name(path: Path) -> str:
    """Return a plain name for a clip, from the name and the folder of its recording."""
    return re.sub(r"[^A-Za-z0-9]+", "_", f"{path.parent.name}.{path.stem}") + ".wav"


def drum_kits(audio: Path) -> dict[str, Hits]:
    """Return the drum kits of Hydrogen by name, each with the recordings whose file name contains the kind of drum."""
    kits: dict[str, Hits] = {}
    for package in ("hydrogen-drumkits", "hydrogen-data"):
        for path in sorted(package_folder(audio, package).rglob("*")):
            kind = next((kind for kind, pattern in DRUMS.items() if re.search(pattern, path.stem.lower())), None)
            if kind and path.suffix in (".wav", ".flac", ".aiff"):
                kits.setdefault(path.parent.name, []).append((kind, path))
    return kits


def hydrogen_drums(audio: Path) -> Splits:
    """Return five folds of single drum hits; no kit is in two folds."""
    folds = group_folds(drum_kits(audio), 5)
    return {fold: [Clip(wav_name(path), kind, scaled_to_peak(read_mono(path))) for kind, path in hits] for fold, hits in folds.items()}


def split_kits(audio: Path, test: int = 1) -> dict[str, Hits]:
    """Return the hits of each split: of the kits from the largest to the smallest, every fourth is in test, and every fourth in valid.

    test: index of a test kit modulo four.
    """
    splits: dict[str, Hits] = {split: [] for split in EVENT_COUNTS}
    kits = sorted(drum_kits(audio).items(), key=lambda kit: (-len(kit[1]), kit[0]))
    for number, (_, hits) in enumerate(kits):
        splits[{test % 4: "test", (test + 2) % 4: "valid"}.get(number % 4, "train")] += hits
    return splits


def mix_hits(hits: Hits, rng: np.random.Generator) -> tuple[Array, list[Event]]:
    """Return 20 s of drum hits in pink noise (time,), with their events."""
    recordings = {kind: [path for label, path in hits if label == kind] for kind in EVENT_LABELS}
    kinds = [kind for kind in EVENT_LABELS if recordings[kind]]
    white = rng.standard_normal(EVENT_SECONDS * SAMPLE_RATE)
    falling = np.sqrt(np.arange(1, len(white) // 2 + 2))  # pink noise: power falls as 1 / frequency
    pink = np.fft.irfft(np.fft.rfft(white) / falling, n=len(white))
    waveform = (pink / np.abs(pink).max() * rng.choice([0.01, 0.03, 0.08])).astype(np.float32)
    events: list[Event] = []
    start = float(rng.uniform(0.2, 1.0))
    while start < EVENT_SECONDS - 1.5:
        kind = kinds[rng.integers(len(kinds))]
        path = recordings[kind][rng.integers(len(recordings[kind]))]
        hit = trimmed(scaled_to_peak(read_mono(path), float(rng.uniform(0.2, 0.7))), 0.05)[: int(0.9 * SAMPLE_RATE)]
        first = int(start * SAMPLE_RATE)
        hit = hit[: len(waveform) - first]
        waveform[first : first + len(hit)] += hit
        end = start + max(len(hit) / SAMPLE_RATE, 0.06)
        events.append({"label": kind, "start": start * 1000, "end": end * 1000})
        start += float(rng.uniform(0.15, 0.9))
    return waveform, events


def drum_events(audio: Path) -> Splits:
    """Return clips of drum hits in pink noise; no kit is in two splits."""
    rng, hits = np.random.default_rng(0), split_kits(audio)
    splits: Splits = {split: [] for split in EVENT_COUNTS}
    for split, count in EVENT_COUNTS.items():
        for number in range(count):
            waveform, events = mix_hits(hits[split], rng)
            splits[split].append(Clip(f"{split}{number:03d}.wav", events, waveform))
    return splits


def timgm_pitch(audio: Path) -> Splits:
    """Return single notes of the sound font TimGM6mb; no instrument is in two splits, and silent notes are left out."""
    font, rng = package_folder(audio, "timgm6mb-soundfont") / FONT, random.Random(0)
    splits: Splits = {"train": [], "valid": [], "test": []}
    hop, length = int(NOTE_HOP_SECONDS * SAMPLE_RATE), int(NOTE_SECONDS * SAMPLE_RATE)
    for program in PROGRAMS:
        split = {5: "valid", 2: "test", 7: "test"}.get(program % 8, "train")
        pitches = sorted(rng.sample(PITCHES, NOTES_PER_PROGRAM))
        notes = []
        for number, pitch in enumerate(pitches):
            velocity, start = rng.choice([60, 90, 115]), number * NOTE_HOP_SECONDS
            notes.append(Note(velocity, pitch, start, start + rng.choice([0.6, 1.2, 1.8])))
        waveform = render([Voice(program, notes)], font)
        for number, pitch in enumerate(pitches):
            note = waveform[number * hop :][:length]
            if np.abs(note).max() >= 0.003:
                splits[split].append(Clip(f"p{program:03d}.n{pitch:03d}.wav", str(pitch), note))
    return splits


def ktuberling_language(audio: Path) -> Splits:
    """Return words of the game KTuberling in 13 languages, trimmed and scaled to the same peak."""
    sounds, rng = package_folder(audio, "ktuberling-data") / "usr/share/ktuberling/sounds", random.Random(0)
    splits: Splits = {"train": [], "valid": [], "test": []}
    for language in LANGUAGES:
        files = sorted(path for path in (sounds / language).iterdir() if path.suffix in (".ogg", ".wav", ".opus"))
        rng.shuffle(files)
        for number, path in enumerate(files):
            waveform = read_mono(path)
            if waveform.any():
                waveform = scaled_to_peak(trimmed(waveform, 0.02))
            splits[LANGUAGE_SPLITS[number % len(LANGUAGE_SPLITS)]].append(Clip(f"{language}_{wav_name(path)}", language, waveform))
    return splits


ONSET_SCORES = ("event_onset_50ms_fms", "event_onset_200ms_fms", "segment_1s_er")
ONSET_PARAMETERS = {"event_postprocessing_grid": {"median_filter_ms": [100], "min_duration": [50]}}
TASKS: list[tuple[Task, Callable[[Path], Splits]]] = [
    (Task("dev_hydrogen_drums", "scene", "multiclass", "new_split_kfold", 1.0, ["top1_acc"], sorted(DRUMS)), hydrogen_drums),
    (
        Task(
            "dev_timgm_pitch",
            "scene",
            "multiclass",
            "trainvaltest",
            NOTE_SECONDS,
            ["pitch_acc", "chroma_acc"],
            [str(pitch) for pitch in PITCHES],
        ),
        timgm_pitch,
    ),
    (Task("dev_ktuberling_language", "scene", "multiclass", "trainvaltest", 1.5, ["top1_acc"], LANGUAGES), ktuberling_language),
    (
        Task("dev_drum_events", "event", "multilabel", "trainvaltest", float(EVENT_SECONDS), ONSET_SCORES, EVENT_LABELS, ONSET_PARAMETERS),
        drum_events,
    ),
]


def main() -> int:
    """Build those of the four tasks that do not exist yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder of fetch_audio.py")
    parser.add_argument("tasks", type=Path, metavar="TASKS", help="folder to write to; one folder per task")
    given = parser.parse_args()
    for task, clips in TASKS:
        if task.folder(given.tasks).is_dir():
            print(f"{task.name}: there already")
        else:
            task.write(given.tasks, clips(given.audio))
    return 0


if __name__ == "__main__":
    run_main(main)
