"""A score kept in scores.json is shown again only for the very same task, audio and model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hear_ssl.evaluation import run
from hear_ssl.evaluation.model_under_test import load_model_under_test, model_name
from hear_ssl.evaluation.protocol.embed import task_hash
from hear_ssl.evaluation.run import evaluate, models_to_compare
from hear_ssl.evaluation.tasks import task_format as task
from hear_ssl.evaluation.tasks.task_format import audio_folder, find_tasks, read_task
from tests.data.sounds import tone, write
from tests.evaluation.test_evaluate import log_mel, make_scene


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


def test_a_task_is_read_and_hashed_once_for_all_models(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    for module, name in ((run, "read_task"), (task, "_hash_clips")):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, whole=whole, name=name: counts.update([name]) or whole(*given))
    models = [replace(log_mel(), name=name, key=name) for name in ("one", "other")]
    record = evaluate(models, [scene], tmp_path / "out", "fast", 1, show=False)
    assert counts == {"read_task": 1, "_hash_clips": 3}  # splits
    assert set(record["tasks"]["scene"]) == {"one", "other"}


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
    before = task_hash(read_task(scene))
    made = audio_folder(read_task(scene), "test", 32000) / "test0.wav"
    assert task_hash(read_task(scene)) == before
    old = soundfile.read(made)[0]
    write(scene / "16000" / "test" / "test0.wav", tone(0.5, 400.0), subtype="PCM_16")
    later = made.stat().st_mtime + 10
    os.utime(scene / "16000" / "test" / "test0.wav", (later, later))
    assert task_hash(read_task(scene)) != before
    audio_folder(read_task(scene), "test", 32000)
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
    made = read_task(scene)
    for file in list(made.indexes["test"])[1:]:
        (audio_folder(made, "test", 48000) / file).unlink()
    assert len(list(audio_folder(made, "test", 32000).iterdir())) == 24
    assert len(list(audio_folder(made, "test", 48000).iterdir())) == 24


MODULE = """
import pathlib, torch
from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.baselines import get_scene_embeddings, get_timestamp_embeddings
def load_model(model_file_path=""):
    model = baselines.load_model()
    model.gain = torch.nn.Parameter(torch.load(model_file_path or pathlib.Path(__file__).with_name("default.pt")))
    return model
"""


@pytest.fixture
def weighted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a module of one file that loads the weights next to it."""
    (tmp_path / "hear_weighted.py").write_text(MODULE)
    torch.save(torch.tensor(1.0), tmp_path / "default.pt")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hear_weighted", raising=False)  # of an earlier test
    return tmp_path


def test_the_key_follows_the_weights_wherever_they_come_from(weighted: Path) -> None:
    first = load_model_under_test("hear_weighted")
    assert load_model_under_test("hear_weighted").key == first.key
    torch.save(torch.tensor(2.0), weighted / "default.pt")
    assert load_model_under_test("hear_weighted").key != first.key


def test_other_weights_of_one_module_have_a_name_of_their_own(weighted: Path) -> None:
    torch.save(torch.tensor(2.0), weighted / "good.pt")
    names = [subject.name for subject in models_to_compare("hear_weighted", str(weighted / "good.pt"), ["hear_weighted"])]
    assert names == ["hear_weighted (good.pt)", "hear_weighted", "log-mel"]
    with pytest.raises(ValueError, match="hear_weighted is given twice"):
        models_to_compare("hear_weighted", "", ["hear_weighted"])


def test_weights_beside_a_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="holds its own weights: leave --weights out"):
        load_model_under_test(str(tmp_path / "last.ckpt"), "/nonexistent")
    assert model_name(f"{tmp_path}/") == str(tmp_path)


def test_a_module_beside_a_folder_of_its_name_is_imported(weighted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = weighted / "submission" / "hear_packed"
    package.mkdir(parents=True)
    (weighted / "hear_packed").mkdir()
    (package / "__init__.py").write_text(MODULE)
    (package / "manifest.json").write_text('{"name": "of another tool"}')
    torch.save(torch.tensor(1.0), package / "default.pt")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(package.parent)
    assert [subject.name for subject in models_to_compare("hear_packed", "", [])] == ["hear_packed", "log-mel"]
