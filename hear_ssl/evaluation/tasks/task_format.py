"""Tasks in HEAR format: read metadata, labels and splits of a folder and check them before any computation.

The format is that of hear-preprocess (https://github.com/hearbenchmark/hear-preprocess): task_metadata.json,
labelvocabulary.csv, {split}.json and {rate}/{split}/*.wav.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.tasks.task_parameters import LARGEST, read_parameters
from hear_ssl.files import atomic_path
from hear_ssl.model.audio_file import streams
from hear_ssl.model.output import one_line

RATES = (48000, 44100, 32000, 22050, 16000)
CHOICES = {
    "embedding_type": ("scene", "event"),
    "prediction_type": ("multiclass", "multilabel"),
    "split_mode": ("trainvaltest", "new_split_kfold", "presplit_kfold"),
}


@dataclass(frozen=True)
class Task:
    """One task. indexes[split] maps a file to its labels (scene) or to its events with label, start and end in ms (event)."""

    folder: Path
    name: str
    embedding_type: str
    prediction_type: str
    split_mode: str
    splits: tuple[str, ...]
    scores: tuple[str, ...]
    labels: tuple[str, ...]
    indexes: dict[str, dict[str, Any]]
    stop_by_score: bool = True
    parameters: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def clip_hashes(self) -> dict[str, str]:
        """A hash for each split: names, sizes and modification times of its files at the first access."""
        return {split: _hash_clips(self, split) for split in self.splits}

    def folds(self) -> list[dict[str, list[str]]]:
        """Return train, valid and test splits of every fold: fold i is test, i + 1 is validation, the others are training."""
        if self.split_mode == "trainvaltest":
            return [{"train": ["train"], "valid": ["valid"], "test": ["test"]}]
        folds, count = sorted(self.splits), len(self.splits)
        return [
            {
                "train": [fold for place, fold in enumerate(folds) if place not in (test, (test + 1) % count)],
                "valid": [folds[(test + 1) % count]],
                "test": [folds[test]],
            }
            for test in range(count)
        ]

    def lacking(self, score: str, splits: list[str]) -> str:
        """Return why a score is undefined on the clips of some splits, or ''."""
        clips = [entries for split in splits for entries in self.indexes[split].values()]
        if SCORES[score].events:
            return "" if any(clips) else "no clip has an event"
        having = Counter(label for entries in clips for label in {str(entry) for entry in entries})
        one_kind = next((label for label in self.labels if having[label] in (0, len(clips))), None)
        if not SCORES[score].both_kinds or one_kind is None:
            return ""
        return f"{'every' if having[one_kind] else 'no'} clip has the label {one_kind!r}"


def find_tasks(folder: Path, only: list[str] | None = None) -> list[Path]:
    """Return the task folders under `folder` (or itself), those whose name contains one of `only`.

    Raises ValueError when there is none, or two have the same name.
    """
    whole = folder.resolve()  # so that `.` has a name
    candidates = [whole, *sorted(path for path in whole.glob("*") if path.is_dir()), *sorted(whole.glob("tasks/*"))]
    found = [path for path in candidates if (path / "task_metadata.json").is_file()]
    if not found:
        raise ValueError(f"{folder} holds no task (a folder with task_metadata.json); give the folder of HEAR-format tasks")
    chosen = [path for path in found if not only or any(name in path.name for name in only)]
    if not chosen:
        raise ValueError(f"no task is called {', '.join(only or [])}; there are {', '.join(path.name for path in found)}")
    twice = next((path for path in chosen if sum(path.name == other.name for other in chosen) > 1), None)
    if twice:
        raise ValueError(f"{folder} holds two tasks called {twice.name}; rename one, or give the folder of one of them")
    return chosen


def read_task(folder: Path) -> Task:
    """Read and check a task folder. Raises ValueError that names the file and the mistake."""
    metadata = _read_json(folder / "task_metadata.json")
    for key, choices in CHOICES.items():
        if metadata.get(key) not in choices:
            raise ValueError(f"{folder}/task_metadata.json: {key} is {metadata.get(key)!r}; allowed are {', '.join(choices)}")
    if (metadata["embedding_type"], metadata["prediction_type"]) == ("event", "multiclass"):
        raise ValueError(f"{folder}/task_metadata.json: prediction_type is multiclass; an event task must be multilabel")
    splits = _names(folder, metadata, "splits")
    if len(set(splits)) < len(splits):
        raise ValueError(f"{folder}/task_metadata.json: splits are {', '.join(splits)}; each must be there once")
    scores = _names(folder, metadata, "evaluation")
    for score in scores:
        if score not in SCORES or (SCORES[score].events != (metadata["embedding_type"] == "event")):
            raise ValueError(f"{folder}/task_metadata.json: score {score!r} is not known for {metadata['embedding_type']} tasks")
    least = {"trainvaltest": {"train", "valid", "test"}}.get(metadata["split_mode"], set())
    if not least <= set(splits) or (not least and len(splits) < 3):
        raise ValueError(
            f"{folder}/task_metadata.json: splits are {', '.join(splits)}; {metadata['split_mode']} needs train, valid and test"
        )
    labels = _read_vocabulary(folder / "labelvocabulary.csv")
    indexes = {split: _read_index(folder, split, metadata, set(labels)) for split in splits}
    return Task(
        folder,
        str(metadata.get("task_name", folder.name)),
        metadata["embedding_type"],
        metadata["prediction_type"],
        metadata["split_mode"],
        splits,
        scores,
        labels,
        indexes,
        bool(metadata.get("use_scoring_for_early_stopping", True)),
        read_parameters(f"{folder}/task_metadata.json", metadata.get("evaluation_params")),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack the task again")
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; unpack the task again") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({str(error)[:60]}); unpack the task again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object; unpack the task again")
    return content


def _names(folder: Path, metadata: dict[str, Any], key: str) -> tuple[str, ...]:
    names = metadata.get(key)
    plain = isinstance(names, list) and names and all(isinstance(name, str) and name == Path(name).name for name in names)
    if not plain or not isinstance(names, list):
        raise ValueError(f"{folder}/task_metadata.json: {key} is {names!r}; it must be a list of names")
    return tuple(names)


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack the task again")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        places = {int(row["idx"]): str(row["label"]) for row in rows}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; unpack the task again") from None
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ValueError(f"{path} must have the columns idx and label") from None
    if sorted(places) != list(range(len(rows))) or not rows:
        raise ValueError(f"{path}: idx must run from 0 to the number of labels - 1, each once")
    return tuple(places[place] for place in range(len(rows)))


def _read_index(folder: Path, split: str, metadata: dict[str, Any], labels: set[str]) -> dict[str, Any]:
    path = folder / f"{split}.json"
    index = _read_json(path)
    if not index:
        raise ValueError(f"{path} is empty: the split {split} has no clips; unpack the task again")
    event = metadata["embedding_type"] == "event"
    for file, entries in index.items():
        if Path(file).name != file or not file.isprintable() or not isinstance(entries, list):
            raise ValueError(f"{path}: the entry {file[:60]!r} is not a plain file name with a list")
        for entry in entries:
            if event and not (isinstance(entry, dict) and {"label", "start", "end"} <= set(entry)):
                raise ValueError(f"{path}: {file} has an event without label, start and end (ms)")
            if event and not _spans_time(entry["start"], entry["end"]):
                raise ValueError(
                    f"{path}: {file} has an event from {entry['start']!r} to {entry['end']!r}; both are ms, the end not before the start"
                )
            label = str(entry["label"] if event else entry)
            if label not in labels:
                raise ValueError(f"{path}: {file} has the label {label!r}, which labelvocabulary.csv lacks")
        if not event and metadata["prediction_type"] == "multiclass" and len(entries) != 1:
            raise ValueError(f"{path}: {file} has {len(entries)} labels; a multiclass task has exactly one for each clip")
    return index


def _spans_time(start: Any, end: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (start, end))
    return numbers and -LARGEST < start <= end < LARGEST


def source_rate(task: Task, split: str) -> int | None:
    """Return the highest sample rate for which a split has all clips, original or completely resampled; None if there is none."""
    whole = [rate for rate in RATES if all((task.folder / str(rate) / split / file).is_file() for file in task.indexes[split])]
    return next((rate for rate in whole if not _made_mark(task.folder, split, rate).is_file()), whole[0] if whole else None)


def _made_mark(folder: Path, split: str, rate: int) -> Path:
    """Return the empty file that marks a split's audio of this rate in this folder as resampled."""
    return folder / str(rate) / f".{split}.resampled"


def _hash_clips(task: Task, split: str) -> str:
    digest, rate = hashlib.sha256(), source_rate(task, split)
    for file in task.indexes[split]:
        stat = (task.folder / str(rate) / split / file).stat() if rate else None
        digest.update(f"{file} {stat.st_size if stat else 0} {stat.st_mtime_ns if stat else 0}\n".encode())
    return digest.hexdigest()[:12]


def audio_folder(task: Task, split: str, sample_rate: int, spare: Path | None = None) -> Path:
    """Return the folder of a split's audio at `sample_rate`, resampled from another rate (soxr HQ) if it is missing.

    Resampled audio is written to the task's folder, or under `spare` if that is read-only, and updated when its source is newer. Raises
    ValueError when no rate has all clips, a clip is damaged or not mono, or neither folder can be written.
    """
    wanted, source = task.folder / str(sample_rate) / split, source_rate(task, split)
    if source is None:
        given = next((place for rate in (sample_rate, *RATES) if (place := task.folder / str(rate) / split).is_dir()), wanted)
        missing = next(file for file in task.indexes[split] if not (given / file).is_file())
        raise ValueError(f"{given / missing} is missing, and no other rate has every clip of {split}; unpack the task again")
    if source == sample_rate:
        return wanted
    reason = None
    for folder in (task.folder, *([spare / f"{task.folder.name}-{task.clip_hashes[split]}"] if spare else [])):
        try:
            return _resampled(task, split, source, sample_rate, folder)
        except OSError as error:
            reason = error.strerror
    raise ValueError(f"{wanted} cannot be made from {source} Hz: {reason}; free disk space there, or unpack the task elsewhere")


def _resampled(task: Task, split: str, source: int, sample_rate: int, folder: Path) -> Path:
    wanted, origin, mark = folder / str(sample_rate) / split, task.folder / str(source) / split, _made_mark(folder, split, sample_rate)
    if not wanted.is_dir():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    for file in task.indexes[split]:
        old = mark.is_file() and (wanted / file).is_file() and (wanted / file).stat().st_mtime < (origin / file).stat().st_mtime
        if old or not (wanted / file).is_file():
            _resample(origin / file, source, wanted / file, sample_rate)
    return wanted


def _resample(origin: Path, source: int, path: Path, sample_rate: int) -> None:
    resampled = soxr.resample(read_clip(origin, source), source, sample_rate, quality="HQ")
    encoded = io.BytesIO()  # because libsndfile reports neither the file nor the reason when the disk is full
    soundfile.write(encoded, np.clip(resampled, -1.0, 1.0), sample_rate, subtype="PCM_16", format="WAV")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def read_clip(path: Path, sample_rate: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a mono clip (time,) in [-1, 1], read to its real end.

    Raises ValueError when it cannot be read to that end, has another rate, several channels or samples that are not finite.
    """
    kinds, blocks = [], []
    try:
        for stream in streams(path.read_bytes()):
            blocks += list(stream.blocks())
            kinds.append((stream.rate, stream.channels))
            if stream.loss:
                raise ValueError(stream.loss)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)[:100]}; unpack the task again") from None
    wrong = next((f"{rate} Hz with {channels} channels" for rate, channels in kinds if (rate, channels) != (sample_rate, 1)), "")
    wrong = wrong if any(len(block) for block in blocks) else "empty"
    if wrong:
        raise ValueError(f"{path} is {wrong}; it must be mono at {sample_rate} Hz")
    waveform: np.ndarray[Any, np.dtype[np.float32]] = np.concatenate(blocks)[:, 0]
    if not np.isfinite(waveform).all():
        raise ValueError(f"{path} holds samples that are not finite; unpack the task again")
    return waveform
