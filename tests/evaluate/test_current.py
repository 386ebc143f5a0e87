"""A score kept in scores.json is shown again only for the very same task, audio and model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hear_ssl.evaluate.embed import task_hash
from hear_ssl.evaluate.run import evaluate
from hear_ssl.evaluate.task import audio_folder, find_tasks, read_task
from tests.data.sounds import tone, write
from tests.evaluate.test_evaluate import log_mel, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_scene(tmp_path / "scene")


def test_a_changed_or_damaged_task_is_scored_anew(scene: Path, tmp_path: Path) -> None:
    def scored() -> dict[str, Any]:
        record = evaluate([log_mel()], [scene], tmp_path / "out", "fast", 1, show=False)
        return {**record["tasks"]["scene"], **record["faults"]["scene"]}

    first = scored()
    assert scored() == first
    index = json.loads((scene / "test.json").read_text())
    (scene / "test.json").write_text(json.dumps(dict(zip(index, [*list(index.values())[1:], ["high"]], strict=True))))
    changed = scored()
    assert changed["log-mel"]["score"] < 0.5 < first["log-mel"]["score"]
    (scene / "labelvocabulary.csv").unlink()
    assert "labelvocabulary.csv is missing" in scored()["log-mel"]


def test_results_of_earlier_versions_are_computed_anew(scene: Path, tmp_path: Path) -> None:
    first = evaluate([log_mel()], [scene], tmp_path / "out", "fast", 1, show=False)
    old = json.loads(json.dumps(first))
    del old["tasks"]["scene"]["log-mel"]["task_hash"]
    old["tasks"]["scene"]["log-mel"]["score"] = 0.0
    (tmp_path / "out" / "scores.json").write_text(json.dumps(old))
    again = evaluate([log_mel()], [scene], tmp_path / "out", "fast", 1, show=False)
    assert again["tasks"]["scene"]["log-mel"]["score"] == first["tasks"]["scene"]["log-mel"]["score"]


def test_tasks_have_one_name_each(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene)
    assert [path.name for path in find_tasks(Path("."))] == ["scene"]
    shutil.copytree(scene, tmp_path / "tasks" / "scene")
    with pytest.raises(ValueError, match="holds two tasks called scene"):
        find_tasks(tmp_path)


def test_audio_made_from_another_rate_follows_its_source_and_keeps_the_hash(scene: Path) -> None:
    task = read_task(scene)
    before = task_hash(task)
    made = audio_folder(task, "test", 32000) / "test0.wav"
    assert task_hash(task) == before
    old = soundfile.read(made)[0]
    write(scene / "16000" / "test" / "test0.wav", tone(0.5, 400.0), subtype="PCM_16")
    later = made.stat().st_mtime + 10
    os.utime(scene / "16000" / "test" / "test0.wav", (later, later))
    assert task_hash(task) != before
    audio_folder(task, "test", 32000)
    assert not np.array_equal(soundfile.read(made)[0], old)


def test_audio_that_came_with_the_task_is_never_made_anew(scene: Path) -> None:
    shutil.copytree(scene / "16000", scene / "32000")
    made = scene / "32000" / "test" / "test0.wav"
    os.utime(made, (0, 0))
    content = made.read_bytes()
    assert audio_folder(read_task(scene), "test", 32000) == made.parent
    assert audio_folder(read_task(scene), "test", 16000) == scene / "16000" / "test"
    assert made.read_bytes() == content


def test_a_rate_that_was_interrupted_is_no_source_of_others(scene: Path) -> None:
    task = read_task(scene)
    for file in list(task.indexes["test"])[1:]:
        (audio_folder(task, "test", 48000) / file).unlink()
    assert len(list(audio_folder(task, "test", 32000).iterdir())) == 24
    assert len(list(audio_folder(task, "test", 48000).iterdir())) == 24
