"""Training with augmentations that read a folder or remember clips: found before a run starts, whole in its config, resumed exactly."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import load_config
from hear_ssl.training.places import whole_paths
from hear_ssl.training.trainer import fit
from tests.conftest import tiny
from tests.views.measure import impulse, noise, write

FIRST = "{augment: [{speed: {chance: 0.5}}, {reverb: {folder: rooms}}, {background: {folder: noises}}]}"
SECOND = "{augment: [{reverb: {}}, {other_clips: {memory: 12}}, {equaliser: {}}, {pitch_shift: {chance: 0.2}}]}"
VIEWS = f"views=[{FIRST}, {SECOND}]"


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write noise and impulse responses into folders of the working folder."""
    write(tmp_path / "noises", one=noise(1)[0], two=noise(2)[1])
    write(tmp_path / "rooms", hall=impulse(3, 900) + 0.3 * impulse(700, 900))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(run: Path) -> list[str]:
    return [row["loss"] for row in read_metrics(run / "metrics.csv")[1]]


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit_and_from_another_folder(
    shards: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny(shards, sounds / "whole", VIEWS), resume=False)
    assert f"views.0.augment.1.reverb: 0.1 s from 1 of 1 files in {sounds}/rooms\n" in capsys.readouterr().out
    kept = load_config(sounds / "whole" / "config.yaml", [])
    assert [kept.views[0].augment[place].options.folder for place in (1, 2)] == [f"{sounds}/rooms", f"{sounds}/noises"]
    stopped = Path(shutil.copytree(sounds / "whole", sounds / "stopped"))
    (stopped / "checkpoints" / "last.ckpt").unlink()
    os.link(stopped / "checkpoints" / "step-00000003.ckpt", stopped / "checkpoints" / "last.ckpt")
    monkeypatch.chdir("/")
    fit(load_config(stopped / "config.yaml", [f"run={stopped}"]), resume=True)
    first, second = (load_checkpoint(run)["state_dict"] for run in (sounds / "whole", stopped))
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(sounds / "whole")[3:] == losses(stopped)[-3:]
    assert {name: tuple(value.shape) for name, value in first.items() if name.startswith("views.")} == {
        "views.views.0.1.responses.fingerprint": (),
        "views.views.0.2.sounds.fingerprint": (),
        "views.views.1.1.memory": (12, 10240),
        "views.views.1.1.filled": (),
    }
    (sounds / "noises" / "one.wav").unlink()
    with pytest.raises(ValueError, match="noises has other sounds than when the run started; restore them, or start a new run"):
        fit(load_config(stopped / "config.yaml", [f"run={stopped}", "trainer.steps=8"]), resume=True)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("noises", r"^views.0.augment.2.background.folder: folder .*/noises does not exist; give a folder with audio files$"),
        ("rooms", r"^views.0.augment.1.reverb.folder: folder .*/rooms does not exist; give a folder with audio files$"),
    ],
)
def test_a_missing_folder_is_named_before_there_is_a_run_folder(shards: Path, sounds: Path, missing: str, line: str) -> None:
    shutil.rmtree(sounds / missing)
    with pytest.raises(ValueError, match=line):
        fit(tiny(shards, sounds / "run", VIEWS), resume=False)
    assert not (sounds / "run").exists()


def test_folders_of_augmentations_become_whole_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/tmp")
    given = load_config(None, ["views=[{augment: [gain, {background: {folder: ~/n}}]}, {augment: [{reverb: {folder: r}}, {reverb: {}}]}]"])
    config = whole_paths(given)
    assert config.views[0].augment[1].options.folder == "/home/me/n"
    assert [part.options.folder for part in config.views[1].augment] == ["/tmp/r", ""]
    assert whole_paths(config) == config


@pytest.mark.parametrize(
    ("views", "line"),
    [
        ("[{augment: [background]}, {augment: [gain]}]", r"^views.0.augment.0.background.folder is empty; give a folder with audio files"),
        ("[{augment: [gain]}, {augment: [gain, {speed: {ratios: [9/0]}}]}]", r"^views.1.augment.1.speed.ratios has '9/0'; give ratios of"),
        ("[{augment: [{low_pass: {hz: [9000]}}]}, {augment: []}]", r"low_pass.hz is \[9000.0\]; at 16000 Hz it can be 8000 at most$"),
        ("[{augment: [{reverb: {rt60_seconds: 0.3}}]}, {augment: []}]", r"reverb.rt60_seconds is a float; it must be a list$"),
        ("[{augment: [time_masks, reverb]}, {augment: []}]", r"waveforms come first, then spectrograms, then masks$"),
    ],
)
def test_a_mistake_in_an_augmentation_is_named_when_the_config_is_read(views: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        load_config(None, [f"views={views}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["speed", "time_shift"])
def test_an_augmentation_that_moves_time_is_refused_where_tokens_are_compared(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} moves the time of views.1.augment.0; leave it out"):
        load_config("frame", [f"views=[{{crop: 0, augment: [reverb, pitch_shift]}}, {{crop: 0, augment: [{name}]}}]"])
