"""A HEAR module in an environment of its own gives the embeddings and scores that it gives here, to the bit."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import hear_ssl
from hear_ssl.evaluation.__main__ import main
from hear_ssl.evaluation.foreign.model import ForeignModel, load_foreign
from hear_ssl.evaluation.model_under_test import load_model_under_test
from hear_ssl.evaluation.protocol.embed import embed_batch
from hear_ssl.evaluation.report.build import build
from hear_ssl.evaluation.tasks.task_format import read_task
from tests.conftest import ROOT
from tests.evaluation.test_evaluate import make_event, make_scene

# The right module of tests/packaging/naive.py, that misbehaves when the first sample is one of these.
ODD = """
import hear_right, os, signal, torch
from hear_right import load_model
seen = []

def get_scene_embeddings(audio, model):
    case = round(float(audio[0, 0]) * 10)
    if case == 1: raise ValueError("too\\nshort")
    if case == 2: return audio.numpy()
    if case == 3: return hear_right.get_scene_embeddings(audio, model)[:, 1:]
    if case == 4: return hear_right.get_scene_embeddings(audio, model) * float("nan")
    if case == 5: os.kill(os.getpid(), signal.SIGKILL)
    if case == 6: return hear_right.get_scene_embeddings(audio, model).bfloat16()
    if case == 7: audio.zero_()
    return hear_right.get_scene_embeddings(audio, model)

def get_timestamp_embeddings(audio, model):
    case = round(float(audio[0, 0]) * 10)
    frames, times = hear_right.get_timestamp_embeddings(audio, model)
    if case == 1: return frames[:1]
    if case == 2: return frames, (times / 1000).long()
    return frames, times
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the modules hear_right and hear_odd, where processes started from here and this one find them."""
    folder = tmp_path_factory.mktemp("modules")
    shutil.copy(ROOT / "tests" / "packaging" / "naive.py", folder / "hear_right.py")
    (folder / "hear_odd.py").write_text(ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def odd(folder: Path) -> Iterator[ForeignModel]:
    model = load_foreign("hear_odd", "", sys.executable, folder / "logs")
    yield model
    assert model.process is not None
    model.process.close()


def clip(case: int, seconds: float = 0.5) -> torch.Tensor:
    audio = torch.rand(2, round(16000 * seconds), generator=torch.Generator().manual_seed(0)) - 0.5
    audio[:, 0] = case / 10
    return audio


def test_embeddings_are_those_of_the_module_here(odd: ForeignModel) -> None:
    here = load_model_under_test("hear_odd")
    assert odd.weights["state"] == here.weights["state"]
    assert (odd.sample_rate, odd.scene_embedding_size, odd.timestamp_embedding_size) == (16000, 32, 32)
    assert torch.equal(odd.scene(clip(0)), here.scene(clip(0)))
    assert torch.equal(odd.scene(clip(6)), here.scene(clip(6)))  # bfloat16 arrives as float32
    for found, expected in zip(odd.timestamps(clip(0)), here.timestamps(clip(0)), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert odd.timestamps(clip(2))[1].dtype == torch.int64
    zeroed = clip(7)
    assert not torch.equal(odd.scene(zeroed), odd.scene(clip(0)))
    assert torch.equal(zeroed, clip(7))  # what the module does to its audio stays there


def test_what_the_module_does_wrong_is_named_as_here(odd: ForeignModel, tmp_path: Path) -> None:
    task = read_task(make_scene(tmp_path / "scene"))
    lines = {
        1: r"get_scene_embeddings failed: ValueError: too short \(hear_odd.py, line 8\); the whole text is in .*hear_odd.log",
        2: "get_scene_embeddings failed: TypeError: it returned ndarray, not a torch.Tensor",
        3: r"one.wav: its embeddings have the shape \(2, 31\), not \(2, 32\)",
        4: "one.wav: its embedding is not finite",
    }
    for case, line in lines.items():
        with pytest.raises(ValueError, match=line):
            embed_batch(task, odd, ["one.wav", "two.wav"], clip(case))
    event = read_task(make_event(tmp_path / "event"))
    with pytest.raises(ValueError, match="get_timestamp_embeddings failed: ValueError: not enough values to unpack"):
        embed_batch(event, odd, ["one.wav", "two.wav"], clip(1))
    with pytest.raises(ValueError, match="its timestamps are not ascending ms within 0 and 500"):
        embed_batch(event, odd, ["one.wav", "two.wav"], clip(2))


@pytest.mark.slow
def test_a_process_that_died_is_started_again(odd: ForeignModel) -> None:
    before = odd.scene(clip(0))
    with pytest.raises(ValueError, match=r"hear_odd in .* was killed by SIGKILL, out of memory"):
        odd.scene(clip(5))
    assert torch.equal(odd.scene(clip(0)), before)


@pytest.mark.slow
def test_ten_minutes_of_audio_pass_whole(odd: ForeignModel) -> None:
    frames, times_ms = odd.timestamps(clip(0, 600.0)[:1])
    assert frames.shape == (1, 24001, 32)
    assert times_ms[0, -1] == 600_000


@pytest.mark.slow
def test_scores_of_the_command_and_of_python_are_equal(folder: Path, tmp_path: Path) -> None:
    make_scene(tmp_path / "tasks" / "scene")
    make_event(tmp_path / "tasks" / "event")
    asked = ["--module", "hear_right", "--tasks", str(tmp_path / "tasks"), "--grid", "fast", "--baselines", "none"]
    assert main([*asked, "--out", str(tmp_path / "there"), "--python", sys.executable]) == 0
    record = json.loads((tmp_path / "there" / "scores.json").read_text())
    here = hear_ssl.evaluate("hear_right", tasks=tmp_path / "tasks", out=tmp_path / "here", grid="fast", baselines=[])
    for task in ("scene", "event"):
        result = record["tasks"][task]["hear_right"]
        assert result["scores"] == here["tasks"][task]["hear_right"]["scores"]
        assert result["weights"]["python"] == sys.executable
        assert result["key"] != here["tasks"][task]["hear_right"]["key"]  # another environment has other embeddings
    again = hear_ssl.evaluate("hear_right", tasks=tmp_path / "tasks", out=tmp_path / "there", grid="fast", baselines=[], python=sys.prefix)
    assert again["tasks"] == record["tasks"]
    page = tmp_path / "report.html"
    build(tmp_path / "there", "hear_right", None, page)
    assert f"--module hear_right --python {sys.executable} --tasks" in page.read_text()
    with pytest.raises(ValueError, match="the scores of hear_right were made in another environment; give it with --python /"):
        build(tmp_path / "there", "hear_right", tmp_path / "tasks", page)
    build(tmp_path / "there", "hear_right", tmp_path / "tasks", page, python=sys.executable)
    assert "Confusion matrix" in page.read_text()
