"""Embed the audio of a task as rows for the predictor; embeddings are cached on disk by (model, task)."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_ssl.evaluation.model_under_test import ModelUnderTest
from hear_ssl.evaluation.protocol.events import EventLists
from hear_ssl.evaluation.protocol.parallel import map_ahead
from hear_ssl.evaluation.protocol.score_task import LabelledRows
from hear_ssl.evaluation.tasks.task_format import Task, audio_folder, read_clip
from hear_ssl.files import add_checksum, atomic_path, check_zip, sha256_of
from hear_ssl.progress import warn

BATCH_SECONDS = 84.0  # of audio at 16 kHz, as in the kit
WAITING_SECONDS = 4 * BATCH_SECONDS  # of audio kept in memory
SPARE_AUDIO = "audio"  # folder in the cache for resampled audio when the task's folder cannot be written
TIMESTAMP_SLACK_MS = 0.2  # the float32 step of a timestamp at 20 minutes is 0.125 ms


def task_rows(
    task: Task, model: ModelUnderTest, cache: Path, progress: Callable[[str], None] = lambda line: None
) -> dict[str, LabelledRows]:
    """Return the rows of every split of a task; `cache` stores embeddings, and resampled audio that the task's folder cannot store.

    Raises ValueError that names split and clip when an embedding is not finite or has a wrong shape.
    """
    shuffle = random.Random(0)  # the kit writes and trains clips in this order
    splits = {}
    for split in task.splits:
        files = list(task.indexes[split])
        embedded = embed_split(task, split, model, cache / model.key, progress)
        shuffle.shuffle(files)
        splits[split] = (
            scene_rows(task, split, files, embedded) if task.embedding_type == "scene" else event_rows(task, split, files, embedded)
        )
    return splits


Embedded = dict[str, tuple[NDArray[Any], NDArray[Any]]]


def embed_split(task: Task, split: str, model: ModelUnderTest, cache: Path, progress: Callable[[str], None]) -> Embedded:
    """Return each clip's embeddings, (1, dim) or (frames, dim), and timestamps in ms."""
    path = cache / f"{task.folder.name}-{task.clip_hashes[split]}-{split}.npz"
    kept = _kept(path)
    if kept is not None and list(kept) == list(task.indexes[split]):
        return kept
    embedded: Embedded = {}
    folder = audio_folder(task, split, model.sample_rate, cache.parent / SPARE_AUDIO)
    total = len(task.indexes[split])
    threads = torch.get_num_threads()
    workers = threads if model.threadsafe and model.device.type == "cpu" else 1
    jobs = batches(task, split, folder, model.sample_rate)
    for found in map_ahead(lambda job: embed_batch(task, model, *job), jobs, workers, threads // workers):
        embedded.update(found)
        progress(f"embedding {split}: {len(embedded)} of {total} clips")
    ordered = {file: embedded[file] for file in task.indexes[split]}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            files=np.array(list(ordered)),
            bounds=np.cumsum([0] + [len(rows) for rows, _ in ordered.values()]),
            embeddings=np.concatenate([rows for rows, _ in ordered.values()]),
            timestamps_ms=np.concatenate([times for _, times in ordered.values()]),
        )
        file.close()
        add_checksum(temporary)
    return ordered


def _kept(path: Path) -> Embedded | None:
    if not path.is_file():
        return None
    try:
        check_zip(path)
        with np.load(path, allow_pickle=False) as stored:
            return _unpack(dict(stored))
    except Exception as error:  # a damaged file may raise any error
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        warn(f"{path} is damaged ({reason}): its clips are embedded again", aside=True)
        return None


def _unpack(stored: dict[str, Any]) -> Embedded:
    bounds = stored["bounds"].tolist()
    places = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    return {
        str(file): (stored["embeddings"][place], stored["timestamps_ms"][place])
        for file, place in zip(stored["files"], places, strict=True)
    }


def task_hash(task: Task) -> str:
    """Return a hash of everything in the task that affects its scores: metadata, labels, splits and clips."""
    digest = hashlib.sha256()
    for name in ("task_metadata.json", "labelvocabulary.csv", *(f"{split}.json" for split in task.splits)):
        digest.update(sha256_of(task.folder / name).encode())
    digest.update("".join(task.clip_hashes[split] for split in task.splits).encode())
    return digest.hexdigest()[:12]


def batches(task: Task, split: str, folder: Path, sample_rate: int) -> Iterator[tuple[list[str], Tensor]]:
    """Yield (files, audio (batch, time)) of clips of equal length, with at most BATCH_SECONDS in sum.

    Clips are kept until a batch of their length is full; when WAITING_SECONDS are kept, the length with the most audio is yielded.
    """
    waiting: dict[int, list[tuple[str, NDArray[Any]]]] = {}
    samples = 0
    for file in task.indexes[split]:
        waveform = read_clip(folder / file, sample_rate)
        group = waiting.setdefault(len(waveform), [])
        group.append((file, waveform))
        samples += len(waveform)
        full = (len(group) + 1) * len(waveform) > BATCH_SECONDS * sample_rate
        if full or samples > WAITING_SECONDS * sample_rate:
            length = len(waveform) if full else max(waiting, key=lambda length: length * len(waiting[length]))
            samples -= length * len(waiting[length])
            yield _stacked(waiting.pop(length))
    for group in waiting.values():
        yield _stacked(group)


def _stacked(group: list[tuple[str, NDArray[Any]]]) -> tuple[list[str], Tensor]:
    return [file for file, _ in group], torch.from_numpy(np.stack([waveform for _, waveform in group]))


def embed_batch(task: Task, model: ModelUnderTest, files: list[str], audio: Tensor) -> Embedded:
    """Return the embeddings of a batch. Raises ValueError when they break the HEAR API."""
    if task.embedding_type == "scene":
        embeddings = model.scene(audio)
        check(embeddings, (len(files), model.scene_embedding_size), files)
        return {file: (row[None].numpy(), np.zeros(1)) for file, row in zip(files, embeddings, strict=True)}
    frames, timestamps_ms = model.timestamps(audio)
    check(frames, (len(files), timestamps_ms.shape[-1], model.timestamp_embedding_size), files)
    times = timestamps_ms.double().numpy()
    end_ms = 1000.0 * audio.shape[1] / model.sample_rate
    if (
        times.shape != frames.shape[:2]
        or not times.size
        or not np.isfinite(times).all()
        or (np.diff(times, axis=1) <= 0).any()
        or times.min() < 0
        or times.max() > end_ms + TIMESTAMP_SLACK_MS
    ):
        raise ValueError(f"{files[0]}: its timestamps are not ascending ms within 0 and {end_ms:g}; hear-ssl verify gives details")
    return {file: (frames[row].numpy(), times[row]) for row, file in enumerate(files)}


def check(embeddings: Tensor, shape: tuple[int, ...], files: list[str]) -> None:
    """Raise ValueError when embeddings have another shape or a value is not finite."""
    if tuple(embeddings.shape) != shape:
        raise ValueError(f"{files[0]}: its embeddings have the shape {tuple(embeddings.shape)}, not {shape}; hear-ssl verify gives details")
    broken = [file for file, row in zip(files, embeddings, strict=True) if not torch.isfinite(row).all()]
    if broken:
        raise ValueError(f"{broken[0]}: its embedding is not finite; hear-ssl verify gives details")


def scene_rows(task: Task, split: str, files: list[str], embedded: Embedded) -> LabelledRows:
    """Return one row per clip."""
    place = {label: number for number, label in enumerate(task.labels)}
    targets = torch.zeros(len(files), len(task.labels))
    for row, file in enumerate(files):
        for label in task.indexes[split][file]:
            targets[row, place[str(label)]] = 1.0
    embeddings = torch.from_numpy(np.concatenate([embedded[file][0] for file in files])).float()
    return LabelledRows(embeddings, targets, [(file, slice(row, row + 1)) for row, file in enumerate(files)], np.zeros(len(files)), {})


def event_rows(task: Task, split: str, files: list[str], embedded: Embedded) -> LabelledRows:
    """Return one row per frame; a frame has the labels of the events with start <= time < end + 0.0001 ms."""
    place = {label: number for number, label in enumerate(task.labels)}
    times = [embedded[file][1] for file in files]
    bounds = np.cumsum([0] + [len(clip) for clip in times]).tolist()
    targets = torch.zeros(bounds[-1], len(task.labels))
    events: EventLists = {}
    for number, file in enumerate(files):
        events[file] = [(str(event["label"]), float(event["start"]), float(event["end"])) for event in task.indexes[split][file]]
        for label, start, end in events[file]:
            first, last = np.searchsorted(times[number], [start, end + 0.0001]).tolist()
            targets[bounds[number] + first : bounds[number] + last, place[label]] = 1.0
    embeddings = torch.from_numpy(np.concatenate([embedded[file][0] for file in files])).float()
    clips = [(file, slice(bounds[number], bounds[number + 1])) for number, file in enumerate(files)]
    return LabelledRows(embeddings, targets, clips, np.concatenate(times), events)
