"""Write a task in HEAR 2021 format for the official evaluation kit and `python -m hear_ssl.evaluate`.

The format is that of hear-preprocess (Turian et al., 2022, https://github.com/hearbenchmark/hear-preprocess):
task_metadata.json, labelvocabulary.csv, SPLIT.json with the labels of each file, and 16000/SPLIT/*.wav.
Only 16 kHz is written: the kit of HEAR resamples from it, and so does hear_ssl.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 16000
Array = NDArray[Any]
Item = TypeVar("Item")


class Event(TypedDict):
    """One event of a clip, from `start` to `end` in ms."""

    label: str
    start: float
    end: float


class Clip(NamedTuple):
    """One clip of a task: its file name, its label (scene) or events (event), and its waveform (time,) at 16 kHz."""

    file: str
    label: str | list[Event]
    waveform: Array


@dataclass(frozen=True)
class Task:
    """The content of task_metadata.json and labelvocabulary.csv; `scores` are HEAR's names, `seconds` is the length of every clip."""

    name: str
    embedding_type: str  # scene or event
    prediction_type: str  # multiclass or multilabel
    split_mode: str  # trainvaltest or new_split_kfold
    seconds: float
    scores: Sequence[str]
    labels: Sequence[str]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, root: Path) -> Path:
        """Return the folder of the task under `root`."""
        return root / f"{self.name}-v1-full"

    def check_new(self, root: Path) -> None:
        """Raise FileExistsError when the task already exists under `root`."""
        if self.folder(root).exists():
            raise FileExistsError(f"{self.folder(root)} exists; remove it first, or give another folder")

    def write(self, root: Path, splits: Mapping[str, Sequence[Clip]]) -> None:
        """Write the task under `root`, completely or not at all, and print a line with its number of clips.

        Clips are cut or padded with zeros to `seconds`. Raises FileExistsError when the task exists, ValueError when a split is empty,
        has two clips with the same name, or has a label that the task does not have.
        """
        self.check_new(root)
        self._check(splits)
        part = root / f".{self.name}.part"
        shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
        try:
            for split, clips in splits.items():
                write_clips(part / str(SAMPLE_RATE) / split, clips, self.seconds)
                labels = {clip.file: [clip.label] if isinstance(clip.label, str) else clip.label for clip in clips}
                (part / f"{split}.json").write_text(json.dumps(labels))
            (part / "task_metadata.json").write_text(json.dumps(self._metadata(list(splits)), indent=2))
            with open(part / "labelvocabulary.csv", "w", newline="") as file:
                csv.writer(file).writerows([("idx", "label"), *enumerate(self.labels)])
            part.rename(self.folder(root))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        counts = ", ".join(f"{len(clips)} {split}" for split, clips in splits.items())
        print(f"{self.name}: {counts} clips of {self.seconds:g} s, {len(self.labels)} labels", flush=True)

    def _check(self, splits: Mapping[str, Sequence[Clip]]) -> None:
        for split, clips in splits.items():
            names = [clip.file for clip in clips]
            if len(set(names)) < len(names) or not names:
                twice = next((name for name in names if names.count(name) > 1), None)
                raise ValueError(f"{self.name}: split {split} has {f'two clips called {twice}' if twice else 'no clip'}")
            for clip in clips:
                given = [clip.label] if isinstance(clip.label, str) else [event["label"] for event in clip.label]
                unknown = sorted(set(given) - set(self.labels))
                if unknown:
                    raise ValueError(f"{self.name}: {clip.file} has the label {unknown[0]!r}; allowed are {', '.join(self.labels)}")

    def _metadata(self, splits: list[str]) -> dict[str, Any]:
        return {
            "task_name": self.name,
            "version": "v1",
            "embedding_type": self.embedding_type,
            "prediction_type": self.prediction_type,
            "split_mode": self.split_mode,
            "sample_duration": self.seconds,
            "evaluation": list(self.scores),
            "splits": sorted(splits),
            "nfolds": len(splits) if "kfold" in self.split_mode else None,
            "mode": "full",
            "max_task_duration_by_split": None,
            "evaluation_params": dict(self.parameters),
        }


def write_clips(folder: Path, clips: Sequence[Clip], seconds: float) -> None:
    """Write clips as 16-bit WAV files of `seconds`."""
    folder.mkdir(parents=True)
    length = round(seconds * SAMPLE_RATE)
    for clip in clips:
        waveform = clip.waveform[:length]
        padded = np.pad(waveform, (0, length - len(waveform)))
        soundfile.write(folder / clip.file, np.clip(padded, -1, 1), SAMPLE_RATE, subtype="PCM_16")


def read_mono(path: Path) -> Array:
    """Return a recording as the mean of its channels at 16 kHz (time,). Raises ValueError when it cannot be read."""
    try:
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (time, channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error)[:100]}; remove its package's folder and fetch it again") from None
    mono: Array = waveform.mean(axis=1)  # (time,)
    return mono if rate == SAMPLE_RATE else np.asarray(soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ"))


def scaled_to_peak(waveform: Array, peak: float = 0.5) -> Array:
    """Return a waveform scaled to a peak; near silence, below 1e-4, is scaled as if its peak were 1e-4."""
    return waveform / max(1e-4, float(np.abs(waveform).max())) * peak


def trimmed(waveform: Array, threshold: float) -> Array:
    """Return a waveform from its first to its last sample (exclusive) above `threshold` times its peak; unchanged if it is silent."""
    loud = np.flatnonzero(np.abs(waveform) > threshold * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1]] if len(loud) else waveform


def group_folds(groups: Mapping[str, Sequence[Item]], count: int, seed: int = 0) -> dict[str, list[Item]]:
    """Distribute items over `count` folds (fold00, ...) and return them, so that no group is in two folds.

    Groups are assigned from the largest to the smallest, those of equal size in random order, each to the fold with the fewest items.
    """
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    folds: dict[str, list[Item]] = {f"fold{number:02d}": [] for number in range(count)}
    for name in sorted(names, key=lambda name: -len(groups[name])):
        min(folds.values(), key=len).extend(groups[name])
    return folds
