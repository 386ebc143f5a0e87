"""A task on the disk is what HEAR's format says: the evaluation reads it, its WAV files have the clips, and it is whole or not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.reference.hear_task import SAMPLE_RATE, Clip, Task, group_folds, read_mono, scaled_to_peak, trimmed
from hear_ssl.evaluation.tasks.task_format import read_clip, read_task

SCENE = Task("dev_small", "scene", "multiclass", "trainvaltest", 0.5, ["top1_acc"], ["high", "low"])
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)  # 1 s
SPLITS = {split: [Clip(f"{split}.wav", label, TONE)] for split, label in (("train", "high"), ("valid", "low"), ("test", "low"))}


def test_a_scene_task_is_read_by_the_evaluation(tmp_path: Path) -> None:
    SCENE.write(tmp_path, SPLITS)
    folder = tmp_path / "dev_small-v1-full"
    task = read_task(folder)
    assert (task.name, task.labels, task.scores) == ("dev_small", ("high", "low"), ("top1_acc",))
    assert task.indexes == {"train": {"train.wav": ["high"]}, "valid": {"valid.wav": ["low"]}, "test": {"test.wav": ["low"]}}
    clip = read_clip(folder / "16000" / "train" / "train.wav", SAMPLE_RATE)
    np.testing.assert_allclose(clip, TONE[: SAMPLE_RATE // 2], atol=1 / 32768)
    assert [path.name for path in tmp_path.iterdir()] == ["dev_small-v1-full"]


def test_metadata_and_labels_are_those_of_hear(tmp_path: Path) -> None:
    SCENE.write(tmp_path, SPLITS)
    folder = tmp_path / "dev_small-v1-full"
    assert (folder / "labelvocabulary.csv").read_bytes() == b"idx,label\r\n0,high\r\n1,low\r\n"
    assert (folder / "train.json").read_text() == '{"train.wav": ["high"]}'
    assert json.loads((folder / "task_metadata.json").read_text()) == {
        "task_name": "dev_small",
        "version": "v1",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "sample_duration": 0.5,
        "evaluation": ["top1_acc"],
        "splits": ["test", "train", "valid"],
        "nfolds": None,
        "mode": "full",
        "max_task_duration_by_split": None,
        "evaluation_params": {},
    }


def test_an_event_task_in_folds_is_read_by_the_evaluation(tmp_path: Path) -> None:
    task = Task("dev_hits", "event", "multilabel", "new_split_kfold", 2.0, ["event_onset_50ms_fms"], ["kick"])
    event = {"label": "kick", "start": 20.0, "end": 80.5}
    task.write(tmp_path, {f"fold{number:02d}": [Clip(f"{number}.wav", [event], 3.0 * TONE)] for number in range(3)})
    read = read_task(tmp_path / "dev_hits-v1-full")
    assert read.splits == ("fold00", "fold01", "fold02")
    assert read.indexes["fold01"] == {"1.wav": [event]}
    clip = read_clip(tmp_path / "dev_hits-v1-full/16000/fold01/1.wav", SAMPLE_RATE)
    assert len(clip) == 2 * SAMPLE_RATE
    assert not clip[SAMPLE_RATE:].any()  # padded with zeros
    assert clip.max() > 0.9999  # clipped, not wrapped to the other sign
    assert clip[:SAMPLE_RATE][TONE > 0.4].min() > 0.9999


def test_what_cannot_be_a_task_is_refused(tmp_path: Path) -> None:
    clip = SPLITS["train"][0]
    for train, line in (
        ([clip._replace(label="loud")], "train.wav has the label 'loud'; allowed are high, low"),
        ([clip, clip], "split train has two clips called train.wav"),
        ([], "split train has no clip"),
    ):
        with pytest.raises(ValueError, match=line):
            SCENE.write(tmp_path, {**SPLITS, "train": train})
    assert not list(tmp_path.iterdir())
    SCENE.write(tmp_path, SPLITS)
    with pytest.raises(FileExistsError, match="dev_small-v1-full exists; remove it first"):
        replace(SCENE, seconds=1.0).write(tmp_path, SPLITS)


def test_an_interrupted_task_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dev_small.part" / "16000" / "train").mkdir(parents=True)  # of a process that was killed
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            SCENE.write(tmp_path, SPLITS)
    assert not list(tmp_path.iterdir())
    SCENE.write(tmp_path, SPLITS)


def test_a_recording_is_read_as_mono_at_16_khz(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    soundfile.write(tmp_path / "a.wav", np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(44100)], 1), 44100)
    waveform = read_mono(tmp_path / "a.wav")
    assert len(waveform) == SAMPLE_RATE
    np.testing.assert_allclose(waveform[1000:-1000], TONE[1000:-1000], atol=1e-3)  # half of the left channel
    (tmp_path / "b.wav").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.wav cannot be read"):
        read_mono(tmp_path / "b.wav")


def test_peak_and_trimming() -> None:
    waveform = np.array([0.0, 0.01, 1.0, -2.0, 0.3, 0.0])
    assert np.abs(scaled_to_peak(waveform, 0.5)).max() == 0.5
    assert trimmed(waveform, 0.05).tolist() == [1.0, -2.0]  # without the last sample above the threshold
    assert trimmed(np.zeros(3), 0.05).tolist() == [0.0, 0.0, 0.0]
    assert not scaled_to_peak(np.zeros(3)).any()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 6))
def test_no_group_is_in_two_folds_and_folds_are_of_a_size(sizes: list[int], count: int) -> None:
    groups = {f"g{number}": [(number, item) for item in range(size)] for number, size in enumerate(sizes)}
    folds = group_folds(groups, count)
    assert list(folds) == [f"fold{number:02d}" for number in range(count)]
    assert sorted(item for fold in folds.values() for item in fold) == sorted(item for group in groups.values() for item in group)
    homes = [{number for number, _ in fold} for fold in folds.values()]
    assert sum(map(len, homes)) == len(sizes)
    lengths = list(map(len, folds.values()))
    assert max(lengths) - min(lengths) <= max(sizes)  # the largest first to the emptiest
    assert folds == group_folds(groups, count)
