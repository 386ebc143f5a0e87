"""Bad input through the command line: the task is named, the reason said, the other tasks go on, exit status 1 at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.evaluation import baselines
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny
from tests.data.sounds import tone, write
from tests.evaluation.test_evaluate import make_event, make_scene

pytestmark = pytest.mark.slow
MODULE = """
import torch
from hear_ssl.evaluation.baselines import get_scene_embeddings as scenes, get_timestamp_embeddings as timestamps, load_model as load
def load_model(model_file_path=""):
    return load()
def get_scene_embeddings(audio, model):
    embeddings = scenes(audio, model)
    {scene}
    return embeddings
def get_timestamp_embeddings(audio, model):
    embeddings, times = timestamps(audio, model)
    {event}
    return embeddings, times
"""
WRONG = {
    "not a number": ("embeddings[-1, 3] = float('nan')", "", "scene", "its embedding is not finite"),
    "wrong width": ("embeddings = embeddings[:, :-1]", "", "scene", "its embeddings have the shape (24, 191), not (24, 192)"),
    "wrong rank": ("embeddings = embeddings[:, None]", "", "scene", "its embeddings have the shape (24, 1, 192), not (24, 192)"),
    "fewer clips": ("embeddings = embeddings[1:]", "", "scene", "its embeddings have the shape (23, 192), not (24, 192)"),
    "frames not a number": ("", "embeddings[0, 2] = float('inf')", "event", "its embedding is not finite"),
    "past the end": ("", "times = times + 100.0", "event", "its timestamps are not ascending ms within 0 and 4000"),
    "seconds": ("", "times = times * 0.0", "event", "its timestamps are not ascending ms"),
    "window": (
        "if audio.shape[1] < 16000: raise RuntimeError('Kernel size (16000) is larger than the input (8000)')",
        "",
        "scene",
        "Kernel size (16000) is larger than the input (8000)",
    ),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    make_scene(folder / "scene")
    make_event(folder / "event")
    return folder


def evaluated(module: str, tasks: Path, out: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hear_ssl.evaluate", "--module", module, "--tasks", str(tasks), "--out", str(out), "--grid", "fast"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{path}"})


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_module_is_named_with_the_task_and_the_other_task_goes_on(tasks: Path, tmp_path: Path, wrong: str) -> None:
    scene, event, task, line = WRONG[wrong]
    (tmp_path / "hear_wrong.py").write_text(MODULE.format(scene=scene or "pass", event=event or "pass"))
    result = evaluated("hear_wrong", tasks, tmp_path / "out", tmp_path)
    assert result.returncode == 1
    [fault] = [text for text in result.stderr.splitlines() if text]
    assert fault.startswith(f"{task}: hear_wrong: ")
    assert line in fault
    record = json.loads((tmp_path / "out" / "scores.json").read_text())
    other = {"scene": "event", "event": "scene"}[task]
    assert "hear_wrong" not in record["tasks"][task]
    assert record["tasks"][other]["hear_wrong"]["score"] > 0.4
    assert set(record["tasks"][task]) == {"log-mel"}


DAMAGES = {
    "an empty split": ("valid.json", {}, "the split valid has no clips"),
    "labels outside the vocabulary": ("test.json", {"test0.wav": ["bell"]}, "has the label 'bell', which labelvocabulary.csv lacks"),
    "a clip that is not there": ("test.json", {"test99.wav": ["low"]}, "test99.wav is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_task_is_named_and_the_other_goes_on(tasks: Path, tmp_path: Path, damage: str) -> None:
    file, content, line = DAMAGES[damage]
    shutil.copytree(tasks / "scene", tmp_path / "tasks" / "a_broken")
    shutil.copytree(tasks / "scene", tmp_path / "tasks" / "whole")
    (tmp_path / "tasks" / "a_broken" / file).write_text(json.dumps(content))
    result = evaluated(baselines.__name__, tmp_path / "tasks", tmp_path / "out", tmp_path)
    assert result.returncode == 1
    faults = [text for text in result.stderr.splitlines() if text]
    assert [fault.partition(": ")[0] for fault in faults] == ["a_broken"] * (2 if "is missing" in line else 1)  # audio is asked for by each
    assert all(line in fault for fault in faults)
    record = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert all(line in fault for fault in record["faults"]["a_broken"].values())
    assert set(record["faults"]["a_broken"]) == {baselines.__name__, "log-mel"}
    assert record["tasks"]["a_broken"] == {}
    assert record["tasks"]["whole"][baselines.__name__]["score"] > 0.9
    shutil.rmtree(tmp_path / "tasks" / "a_broken")
    shutil.copytree(tasks / "scene", tmp_path / "tasks" / "a_broken")
    assert evaluated(baselines.__name__, tmp_path / "tasks", tmp_path / "out", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1", "module hear_wrong has no load_model; it does not follow the HEAR API"),
        ("def load_model(path=''): pass\ndef get_scene_embeddings(a, m): pass", "module hear_wrong has no get_timestamp_embeddings"),
        (MODULE.format(scene="pass", event="pass").replace("return load()", "return 3"), "has no int sample_rate"),
        (MODULE.format(scene="pass", event="pass").replace("return load()", "return 1 / 0"), "failed: ZeroDivisionError"),
        ("import no_such_package", "neither a run folder nor a module to import"),
    ],
)
def test_a_module_without_the_api_is_one_line(tasks: Path, tmp_path: Path, code: str, line: str) -> None:
    (tmp_path / "hear_wrong.py").write_text(code)
    result = evaluated("hear_wrong", tasks, tmp_path / "out", tmp_path)
    assert result.returncode == 2  # no task can be scored, so none is begun
    assert result.stderr.count("\n") == 1
    assert line in result.stderr


def test_clips_shorter_than_the_models_window_are_embedded_by_ours(shards: Path, tmp_path: Path) -> None:
    """A clip of 10 ms is far shorter than the window of 64 ms."""
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    folder = make_scene(tmp_path / "tasks" / "short")
    for path in folder.rglob("*.wav"):
        write(path, tone(0.01, 900.0), subtype="PCM_16")
    result = evaluated(str(tmp_path / "run"), folder, tmp_path / "out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "run") in json.loads((tmp_path / "out" / "scores.json").read_text())["tasks"]["short"]
