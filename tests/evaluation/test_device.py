"""Models are evaluated on --device: they are moved, get their audio there, and return to the CPU when they fail on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.device import choose_device
from hear_ssl.evaluation.model_under_test import ModelUnderTest, load_model_under_test
from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.run import evaluate
from hear_ssl.evaluation.tasks.task_format import audio_folder, read_task
from hear_ssl.training.config import load_config
from hear_ssl.training.online_probe import check_probe
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny
from tests.evaluation.test_evaluate import log_mel, make_scene
from tests.test_machine import mounted, needs_mounts

META = torch.device("meta")  # a device that every machine has: tensors without content


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("tasks") / "scene")


class Somewhere(nn.Module):
    """A model that records its devices, works on the CPU alone, and needs audio on its own device."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 3

    def __init__(self, moves: bool = True) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.moves = moves

    def to(self, device: Any) -> Somewhere:  # type: ignore[override]
        if not self.moves and torch.device(device).type != "cpu":
            raise RuntimeError("no kernel image is available")
        self.sent.append(torch.device(device).type)
        return self

    def get_scene_embeddings(self, audio: Tensor, model: Somewhere) -> Tensor:
        assert audio.device.type == self.sent[-1]
        if audio.device.type != "cpu":
            raise RuntimeError("out of memory")
        return audio[:, :3]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gpu0", "--device is 'gpu0'; give auto, cpu, cuda, cuda:N or mps"),
        ("", "--device is ''"),
        ("xpu", "--device is 'xpu'"),
        ("cuda:99", "--device is cuda:99, torch finds"),
        ("meta", "--device is 'meta'"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        choose_device(name)
    assert line in str(caught.value)


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu").type == "cpu"
    for cuda, apple, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr("torch.cuda.device_count", lambda cuda=cuda: int(cuda))
        monkeypatch.setattr("torch.backends.mps.is_available", lambda apple=apple: apple)
        assert choose_device("auto").type == expected


def test_model_and_audio_meet_on_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    model = Somewhere()
    subject = ModelUnderTest("there", "key", model, model)
    subject.move(META)
    with pytest.raises(ValueError, match=r"get_scene_embeddings failed: RuntimeError: out of memory \(on meta; --device cpu may do\)"):
        subject.scene(torch.zeros(2, 100))
    subject.move(META, fall_back=True)
    assert torch.equal(subject.scene(torch.ones(2, 100)), torch.ones(2, 3))
    assert (model.sent, subject.device.type, subject.key) == (["meta", "meta", "cpu"], "cpu", "key")
    assert capsys.readouterr().err.count("there: on the CPU from here, because get_scene_embeddings failed") == 1
    assert torch.equal(subject.scene(torch.ones(2, 100)), torch.ones(2, 3))
    assert capsys.readouterr().err == ""


def test_a_model_that_does_not_move_is_named_or_stays() -> None:
    model = Somewhere(moves=False)
    subject = ModelUnderTest("there", "key", model, model)
    with pytest.raises(ValueError, match="moving the model to meta failed: RuntimeError: no kernel image"):
        subject.move(META)
    subject.move(META, fall_back=True)
    assert (subject.device.type, model.sent) == ("cpu", ["cpu"])
    plain = ModelUnderTest("plain", "key", baselines, object())  # without a method `to`
    plain.move(META)
    assert plain.device.type == "cpu"


def test_a_real_module_is_moved() -> None:
    subject = log_mel()
    key = subject.key
    subject.move(META)
    assert {buffer.device.type for buffer in subject.model.buffers()} == {"meta"}
    assert subject.key == key


@pytest.mark.slow
def test_the_command_and_the_probe_have_a_device(scene: Path, tmp_path: Path, shards: Path) -> None:
    command = [sys.executable, "-m", "hear_ssl.evaluate", "--module", baselines.__name__, "--tasks", str(scene), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--device", "cuda:77"], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--device is cuda:77, torch finds" in done.stderr
    assert load_config(None, []).probe.device == "auto"
    wrong = tiny(shards, tmp_path / "run", "probe.every=1", f"probe.tasks={scene}", "probe.device=cuda:77")
    with pytest.raises(ValueError, match=r"probe\.device is cuda:77, torch finds"):
        fit(wrong, resume=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_mounts
def test_audio_of_a_task_that_cannot_be_written_is_resampled_elsewhere(scene: Path, tmp_path: Path) -> None:
    """A module at 32 kHz, a task at 16 kHz on a read-only file system."""
    (tmp_path / "hear_high.py").write_text(
        "from hear_ssl.evaluation.baselines import LogMelStatistics, get_scene_embeddings, get_timestamp_embeddings\n"
        "from hear_ssl.model.options import FrontendConfig\n"
        "def load_model(path=''):\n    return LogMelStatistics(FrontendConfig(sample_rate=32000))\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    read_only = mounted(f"mount --bind {scene} {scene} && mount -o remount,ro,bind {scene}")
    command = [
        sys.executable,
        "-m",
        "hear_ssl.evaluate",
        "--module",
        "hear_high",
        "--tasks",
        str(scene),
        "--out",
        str(out),
        "--grid",
        "fast",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([*read_only, *command], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "scores.json").read_text())["tasks"]["scene"]["hear_high"]["score"] > 0.5
    assert not (scene / "32000").exists()
    made = list((out / "embeddings" / "audio").glob("scene-*/32000/test/*.wav"))
    assert len(made) == len(read_task(scene).indexes["test"])


def blocked(folder: Path) -> Path:
    """Return a task in whose folder nothing can be resampled to 32 kHz: a file has the name of that folder."""
    task = make_scene(folder)
    (task / "32000").write_text("")
    return task


def test_spare_audio_is_the_same_audio(tmp_path: Path) -> None:
    task = read_task(blocked(tmp_path / "scene"))
    with pytest.raises(ValueError, match="cannot be made from 16000 Hz: "):
        audio_folder(task, "test", 32000)
    spare = audio_folder(task, "test", 32000, tmp_path / "spare")
    assert spare == tmp_path / "spare" / f"scene-{task.clip_hashes['test']}" / "32000" / "test"
    whole = audio_folder(read_task(make_scene(tmp_path / "whole")), "test", 32000)
    assert [path.read_bytes() for path in sorted(spare.glob("*.wav"))] == [path.read_bytes() for path in sorted(whole.glob("*.wav"))]
    assert audio_folder(task, "test", 32000, tmp_path / "spare") == spare


def test_the_probe_of_such_a_task_keeps_its_audio_in_the_run_folder(tmp_path: Path) -> None:
    task = blocked(tmp_path / "scene")
    config = load_config(None, [f"probe.tasks={task}", "probe.every=1"]).probe
    check_probe(config, 32000, 0, tmp_path / "run")
    assert list((tmp_path / "run" / "probe" / "audio").glob("scene-*/32000/valid/*.wav"))


def test_kept_embeddings_serve_every_device(scene: Path, tmp_path: Path) -> None:
    first = evaluate([log_mel()], [scene], tmp_path, "fast", 1, show=False)["tasks"]["scene"]["log-mel"]
    subject = log_mel()
    subject.move(META)  # embeds nothing: all that it would is kept
    rows = task_rows(read_task(scene), subject, tmp_path / "embeddings")
    assert rows["test"].embeddings.device.type == "cpu"
    assert evaluate([subject], [scene], tmp_path, "fast", 1, show=False)["tasks"]["scene"]["log-mel"] == first


def test_the_place_of_weights_is_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scores.json is read from other folders."""
    (tmp_path / "hear_weights.py").write_text(
        "from hear_ssl.evaluation.baselines import LogMelStatistics, get_scene_embeddings, get_timestamp_embeddings, load_model\n"
    )
    (tmp_path / "weights.pt").write_bytes(b"anything")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_model_under_test("hear_weights", "weights.pt").weights["place"] == str(tmp_path / "weights.pt")
