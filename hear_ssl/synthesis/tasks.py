"""Write three small HEAR-format tasks with known labels: pitch, kind of sound, onsets.

The sounds are those of `scene.render` with parameters that no training sound has: every coordinate except the pitch is in the
quarter of each cell that `parameter_space.training_region` excludes. The files have the layout of the HEAR 2021 evaluation
kit, https://github.com/hearbenchmark/hear-eval-kit. The scores show whether a training run works; they do not rank models.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hear_ssl.files import disk_errors_of, read_json, remove_unfinished, unfinished_folder
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.synthesis.engines import SAMPLE_RATE
from hear_ssl.synthesis.parameter_space import Array, decode, held_out_region
from hear_ssl.synthesis.scene import KINDS, PHRASE, layout_of, render, render_note
from hear_ssl.synthesis.tones import Note

SCENE_SECONDS = 2.0
ONSET_SECONDS = 6.0
PITCHES = range(48, 84)
PITCH_KINDS = ("voice", "string", "vowel")
ONSET_KINDS = ("string", "struck", "drum", "chirp", "fm")
SPLITS = ("train", "valid", "test")
Bounds = Mapping[str, tuple[float, float]]
# One sustained or repeated note with little reverberation or noise, so that clips differ in their pitch.
PITCH_BOUNDS: Bounds = {
    "seconds": (2.0, 2.3),
    "rate_hz": (0.5, 1.5),
    "drive_db": (-14.0, 0.0),
    "held": (0.6, 1.3),
    "melody_semitones": (0.0, 0.3),
    "chord": (0.3, 0.9),
    "room": (-40.0, -20.0),
    "background": (-80.0, -32.0),
    "peak_db": (-14.0, -1.0),
    "intonation": (-1.0, 1.0),
    "glide_semitones": (-1.0, 1.0),
    "wave": (0.5, 4.0),
}
KIND_BOUNDS: Bounds = {
    "seconds": (2.0, 2.3),
    "rate_hz": (0.8, 6.0),
    "room": (-40.0, -12.0),
    "background": (-80.0, -40.0),
    "peak_db": (-18.0, -1.0),
}
ONSET_BOUNDS: Bounds = {"attack": (0.002, 0.006), "click": (-30.0, -15.0), "sweep_octaves": (-1.8, 1.8)}


@dataclass(frozen=True)
class Example:
    """One file of a task: its sound and its label, or its events as {label, start, end} in ms."""

    waveform: Array
    label: str | list[dict[str, Any]]


@dataclass(frozen=True)
class RenderedTask:
    """A task: the content of task_metadata.json and the function that renders the examples of every split."""

    name: str
    embedding_type: str  # scene or event
    prediction_type: str  # multiclass or multilabel
    seconds: float
    evaluation: list[str]
    labels: list[str]
    render: Callable[[int], dict[str, list[Example]]]  # seed -> examples of each split
    evaluation_params: dict[str, Any] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """The folder of the task in the layout of the evaluation kit."""
        return f"{self.name}-v1-full"

    def metadata(self, seed: int) -> dict[str, Any]:
        """Return the content of task_metadata.json."""
        return {
            "task_name": self.name,
            "version": "v1",
            "embedding_type": self.embedding_type,
            "prediction_type": self.prediction_type,
            "split_mode": "trainvaltest",
            "sample_duration": self.seconds,
            "evaluation": self.evaluation,
            "splits": sorted(SPLITS),
            "nfolds": None,
            "mode": "full",
            "max_task_duration_by_split": None,
            "evaluation_params": self.evaluation_params,
            "synthetic_seed": seed,
        }


def draw(kind: str, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Draw a parameter vector of a kind in the held-out region (d,), each coordinate in the cells that overlap its physical bounds."""
    layout = layout_of(kind)
    theta = rng.random(len(layout))
    for index, coordinate in enumerate(layout):
        if coordinate.name in bounds:
            low, high = (min(max(coordinate.inverse(value), 0.0), 1.0) for value in bounds[coordinate.name])
            theta[index] = low + (high - low) * theta[index]
    return held_out_region(theta)


def scene_clip(kind: str, parameters: Array, seed: int) -> Array:
    """Render a clip and cut it to the scenes' length with a fade of 10 ms (time,)."""
    waveform = render(kind, parameters, seed, SAMPLE_RATE)[: round(SCENE_SECONDS * SAMPLE_RATE)].copy()
    waveform[-160:] *= np.linspace(1.0, 0.0, 160, dtype=np.float32)
    return waveform


def pitch_parameters(rng: np.random.Generator, midi: int) -> tuple[str, Array]:
    """Draw a kind and the vector of a note whose pitch is `midi`: the one coordinate that may equal a training sound's."""
    kind = str(rng.choice(PITCH_KINDS))
    parameters = draw(kind, rng, PITCH_BOUNDS)
    pitch = next(index for index, coordinate in enumerate(PHRASE) if coordinate.name == "midi")
    parameters[pitch] = PHRASE[pitch].inverse(midi)
    return kind, parameters


def _splits(per_label: Mapping[str, int], labels: list[str]) -> list[tuple[str, str]]:
    return [(split, label) for split in SPLITS for label in labels for _ in range(per_label[split])]


def pitch_examples(seed: int) -> dict[str, list[Example]]:
    """Render 288 notes at 36 pitches, from C3 to B5."""
    rng = np.random.default_rng([seed, 1])
    examples: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for split, label in _splits({"train": 4, "valid": 2, "test": 2}, [str(midi) for midi in PITCHES]):
        kind, parameters = pitch_parameters(rng, int(label))
        examples[split].append(Example(scene_clip(kind, parameters, int(rng.integers(2**62))), label))
    return examples


def kind_examples(seed: int) -> dict[str, list[Example]]:
    """Render 300 clips of the ten kinds of sound."""
    rng = np.random.default_rng([seed, 2])
    examples: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for split, label in _splits({"train": 18, "valid": 6, "test": 6}, list(KINDS)):
        parameters = draw(label, rng, KIND_BOUNDS)
        examples[split].append(Example(scene_clip(label, parameters, int(rng.integers(2**62))), label))
    return examples


def onset_clip(rng: np.random.Generator) -> Example:
    """Render a file with single sounds at known times over pink noise, 40 dB below their peak."""
    samples = round(ONSET_SECONDS * SAMPLE_RATE)
    clip = np.zeros(samples, dtype=np.float32)
    events: list[dict[str, Any]] = []
    ends = dict.fromkeys(ONSET_KINDS, -1.0)
    onset = 0.2 + 0.4 * rng.random()
    while onset < ONSET_SECONDS - 0.4:
        silent = [kind for kind, end in ends.items() if end < onset - 0.15]  # two events of one label must not merge
        if not silent:
            onset += 0.1
            continue
        kind = str(rng.choice(silent))
        start = round(onset * SAMPLE_RATE)
        values = decode(layout_of(kind), draw(kind, rng, ONSET_BOUNDS))
        note = Note(values["midi"], 0.15 + 0.35 * rng.random(), samples - start, SAMPLE_RATE, rng)
        sound = render_note(kind, values, note) * np.float32(10.0 ** (-0.5 * rng.random()))
        clip[start : start + len(sound)] += sound
        ends[kind] = min(onset + max(0.15, audible_seconds(sound)), ONSET_SECONDS)
        events.append({"label": kind, "start": 1000.0 * start / SAMPLE_RATE, "end": round(1000.0 * ends[kind], 1)})
        onset += 0.3 + 0.5 * float(rng.exponential())
    spectrum = np.fft.rfft(rng.standard_normal(samples)) / np.sqrt(np.arange(samples // 2 + 1) + 20.0)
    noise = np.fft.irfft(spectrum, n=samples)
    clip += (0.01 / np.abs(noise).max() * noise).astype(np.float32)
    return Example(clip * np.float32(0.7 / np.abs(clip).max()), events)


def audible_seconds(sound: Array) -> float:
    """Return when a sound last exceeds a tenth of its peak."""
    return float(np.flatnonzero(np.abs(sound) > 0.1 * np.abs(sound).max())[-1] + 1) / SAMPLE_RATE


def onset_examples(seed: int) -> dict[str, list[Example]]:
    """Render 20 files of 6 seconds with about seven events each, of five kinds with sharp onsets."""
    rng = np.random.default_rng([seed, 3])
    return {split: [onset_clip(rng) for _ in range(count)] for split, count in zip(SPLITS, (10, 4, 6), strict=True)}


TASKS = (
    RenderedTask(
        "synth_pitch", "scene", "multiclass", SCENE_SECONDS, ["pitch_acc", "chroma_acc"], [str(midi) for midi in PITCHES], pitch_examples
    ),
    RenderedTask("synth_kind", "scene", "multiclass", SCENE_SECONDS, ["top1_acc"], list(KINDS), kind_examples),
    RenderedTask(
        "synth_onsets",
        "event",
        "multilabel",
        ONSET_SECONDS,
        ["event_onset_50ms_fms", "event_onset_200ms_fms"],
        list(ONSET_KINDS),
        onset_examples,
        {"event_postprocessing_grid": {"median_filter_ms": [120], "min_duration": [50]}},
    ),
)


def write_tasks(out: str | os.PathLike[str], seed: int = 0) -> list[Path]:
    """Write synth_pitch, synth_kind and synth_onsets into the folder `out`; returns their folders.

    The same seed gives the same bytes; a task that an earlier call wrote with the same seed is kept. Raises FileExistsError
    when the folder of a task holds anything else.
    """
    root = Path(out)
    written = []
    with folder_lock(root, OUT_BUSY, wait_seconds=60.0):
        for task in TASKS:
            folder = root / task.folder_name
            written.append(folder)
            remove_unfinished(root, folder.name)
            if folder.exists():
                _check_same(task.metadata(seed), folder)
                continue
            with disk_errors_of(folder), unfinished_folder(root, folder.name) as temporary:
                (temporary / folder.name).mkdir()
                _write_task(task, seed, temporary / folder.name)
                (temporary / folder.name).rename(folder)
    return written


def _check_same(metadata: dict[str, Any], folder: Path) -> None:
    """Raise FileExistsError unless the folder holds the task of this metadata."""
    file = folder / "task_metadata.json"
    if not file.is_file() or read_json(file) != metadata:
        raise FileExistsError(
            f"{folder} holds something other than this task with seed {metadata['synthetic_seed']}: give another folder, or remove it first"
        )


def _write_task(task: RenderedTask, seed: int, folder: Path) -> None:
    (folder / "task_metadata.json").write_text(json.dumps(task.metadata(seed), indent=2))
    vocabulary = io.StringIO()
    csv.writer(vocabulary, lineterminator="\n").writerows([("idx", "label"), *enumerate(task.labels)])
    (folder / "labelvocabulary.csv").write_text(vocabulary.getvalue())
    for split, examples in task.render(seed).items():
        audio = folder / str(SAMPLE_RATE) / split
        audio.mkdir(parents=True)
        index = {}
        for number, example in enumerate(examples):
            name = f"{split}_{number:03d}.wav"
            encoded = io.BytesIO()  # because libsndfile reports neither the file nor the reason when the disk is full
            soundfile.write(encoded, example.waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
            (audio / name).write_bytes(encoded.getvalue())
            index[name] = [example.label] if isinstance(example.label, str) else example.label
        (folder / f"{split}.json").write_text(json.dumps(index))
