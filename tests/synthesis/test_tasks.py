"""The synthetic tasks: HEAR's layout, true labels, and parameters that no training sound has."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.synthesis import tasks as tasks_module
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.scene import KINDS, PHRASE
from hear_ssl.synthesis.tasks import (
    KIND_BOUNDS,
    ONSET_BOUNDS,
    ONSET_KINDS,
    TASKS,
    draw,
    onset_examples,
    pitch_parameters,
    write_tasks,
)
from tests.synthesis.measure import held_out

NAMES = ("synth_pitch", "synth_kind", "synth_onsets")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the three tasks."""
    root = tmp_path_factory.mktemp("tasks")
    assert [folder.name for folder in write_tasks(root, seed=0)] == [f"{name}-v1-full" for name in NAMES]
    return root


@pytest.fixture
def onsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the onset task alone."""
    monkeypatch.setattr(tasks_module, "TASKS", TASKS[2:])
    write_tasks(tmp_path, seed=0)
    return tmp_path


def read_task(root: Path, name: str) -> tuple[dict[str, object], list[str], dict[str, dict[str, list[object]]]]:
    """Read a task's metadata, labels and the index of each split."""
    folder = root / f"{name}-v1-full"
    with open(folder / "labelvocabulary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["idx"]) for row in rows] == list(range(len(rows)))
    splits = {split: json.loads((folder / f"{split}.json").read_text()) for split in ("train", "valid", "test")}
    return json.loads((folder / "task_metadata.json").read_text()), [row["label"] for row in rows], splits


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_files_match_the_metadata(tasks: Path, name: str) -> None:
    metadata, labels, splits = read_task(tasks, name)
    assert metadata["task_name"] == name
    assert metadata["splits"] == ["test", "train", "valid"]
    assert metadata["split_mode"] == "trainvaltest"
    seen = set()
    for split, index in splits.items():
        audio = tasks / f"{name}-v1-full" / "16000" / split
        assert sorted(index) == sorted(path.name for path in audio.iterdir())
        for file, label in index.items():
            info = soundfile.info(audio / file)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.duration == metadata["sample_duration"]
            used = {event["label"] for event in label} if metadata["embedding_type"] == "event" else set(label)  # type: ignore[index]
            assert used <= set(labels)
            seen |= used
    assert seen == set(labels)


@pytest.mark.slow
def test_sizes_stay_small(tasks: Path) -> None:
    for name, files, seconds in (("synth_pitch", 300, 2.0), ("synth_kind", 300, 2.0), ("synth_onsets", 20, 6.0)):
        metadata, _, splits = read_task(tasks, name)
        assert sum(map(len, splits.values())) <= files
        assert metadata["sample_duration"] == seconds


def harmonic_pitch(waveform: Array) -> float:
    """Return the MIDI number whose harmonics carry the most amplitude, less what lies between them (a sub-harmonic sum)."""
    frequencies = np.arange(8001) * 1.0
    magnitude = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), n=16000))
    candidates = np.arange(40.0, 92.0, 0.1)
    hertz = 440.0 * 2 ** ((candidates - 69) / 12)

    def at(multiple: float) -> Array:
        return np.interp(hertz * multiple, frequencies, magnitude) ** 0.5

    score = sum((at(m) - at(m - 0.5)) * 0.84 ** (m - 1) for m in range(1, 13))
    return float(candidates[int(np.argmax(score))])


@pytest.mark.slow
def test_pitch_labels_are_the_pitches_of_the_sounds(tasks: Path) -> None:
    _, _, splits = read_task(tasks, "synth_pitch")
    errors = []
    for file, (label,) in splits["test"].items():
        waveform, _ = soundfile.read(tasks / "synth_pitch-v1-full" / "16000" / "test" / file)
        errors.append(harmonic_pitch(waveform) - float(str(label)))
    assert np.mean(np.abs(errors) < 0.5) > 0.8
    assert abs(float(np.median(errors))) < 0.1


def test_onsets_are_where_the_labels_say() -> None:
    late = []
    for examples in onset_examples(0).values():
        for example in examples:
            assert isinstance(example.label, list)
            energy = np.square(np.diff(example.waveform, prepend=0.0))  # the high band: decaying sounds are low
            for event in example.label:
                start = round(16 * event["start"])
                before = energy[max(0, start - 320) : start].reshape(-1, 16).mean(axis=1)
                after = np.convolve(energy[start : start + 480], np.ones(16) / 16, "valid")
                risen = np.flatnonzero(after > 3.0 * before.max() + 1e-9)
                late.append((risen[0] if len(risen) else 480) / 16.0)
    assert len(late) > 110
    assert np.mean(np.array(late) < 5.0) > 0.85  # the rest start during a louder sound
    assert np.median(late) < 1.0


def test_onsets_are_apart_and_end_inside_the_file(onsets: Path) -> None:
    _, _, splits = read_task(onsets, "synth_onsets")
    for index in splits.values():
        for events in index.values():
            starts = [event["start"] for event in events]  # type: ignore[index]
            assert np.diff(starts).min() > 290.0
            for label in ONSET_KINDS:
                same = [event for event in events if event["label"] == label]  # type: ignore[index]
                assert all(now["end"] < later["start"] - 100.0 for now, later in pairwise(same))  # type: ignore[index]
            assert all(event["start"] + 100.0 < event["end"] <= 6000.0 for event in events)  # type: ignore[index]


def test_every_coordinate_but_the_pitch_held_out() -> None:
    rng = np.random.default_rng(0)
    pitch = next(index for index, coordinate in enumerate(PHRASE) if coordinate.name == "midi")
    for midi in range(48, 84):
        _, parameters = pitch_parameters(rng, midi)
        assert PHRASE[pitch].value(parameters[pitch]) == pytest.approx(midi)
        assert np.delete(held_out(parameters), pitch).all()
    for kind in KINDS:
        assert held_out(draw(kind, rng, KIND_BOUNDS)).all()
    for kind in ONSET_KINDS:
        assert held_out(draw(kind, rng, ONSET_BOUNDS)).all()


def test_a_second_call_keeps_what_an_earlier_one_wrote(onsets: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in onsets.rglob("*")}
    assert len(before) > 25
    write_tasks(onsets, seed=0)
    assert before == {path: path.stat().st_mtime_ns for path in onsets.rglob("*")}


@pytest.mark.slow
def test_same_seed_same_bytes(tasks: Path, tmp_path: Path) -> None:
    write_tasks(tmp_path, seed=0)
    files = sorted(path.relative_to(tasks) for path in tasks.rglob("*") if path.is_file())
    assert all((tasks / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_another_task_is_not_overwritten(onsets: Path) -> None:
    with pytest.raises(FileExistsError, match="holds something other than this task with seed 1"):
        write_tasks(onsets, seed=1)
    assert not [path for path in onsets.iterdir() if path.name.startswith(".")]
