"""`hear-ssl foreign`: which Python and packages an environment is made of, and what ends it in one line; nothing is downloaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hear_ssl.evaluation.foreign.known import COMPLETE, built_python, default_folder, known_modules, python_in
from hear_ssl.evaluation.foreign.model import load_anywhere, load_known
from hear_ssl.evaluation.verbs import check_baselines
from hear_ssl.folder_lock import folder_lock
from hear_ssl.packaging import foreign_environment
from hear_ssl.packaging.foreign_cli import main
from hear_ssl.packaging.foreign_environment import Recipe, make, recipe_of

MODULE = """
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 1, 1

def load_model(path=""): return Model()
def get_scene_embeddings(audio, model): return audio.mean(1, keepdim=True)
def get_timestamp_embeddings(audio, model): return audio[:, ::160, None], torch.arange(0, audio.shape[1], 160)[None] / 16.0
"""
SETUP = "from setuptools import setup; setup(name='hear-tiny', version='1.0', py_modules=['hear_tiny'])"


def test_every_recipe_pins_what_it_installs_for_the_python_that_runs_here() -> None:
    for name, listed in known_modules().items():
        for packages in [*listed["pythons"].values(), listed["install_alone"]]:
            assert all(package.count("==") == 1 for package in packages), name
    recipe = recipe_of("hearbaseline.naive")
    assert recipe.interpreter == sys.executable
    assert "librosa==0.9.2" in recipe.install
    assert (recipe.torch, recipe.links) == ("", ["torch"])
    assert recipe.linked[0].startswith("torch 2.")
    assert recipe_of("hearbaseline.naive", torch="torch==2.4.1").torch == "torch==2.4.1"


def test_what_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no known pins for 'hearbaseline.nave' \(did you mean 'hearbaseline.naive'\?\); give one of"):
        main(["hearbaseline.nave"])
    old = tmp_path / "python3.6"
    old.write_text("#!/bin/sh\necho 3.6\n")
    old.chmod(0o755)
    with pytest.raises(ValueError, match=r"hearbaseline.naive has pins for Python 3.11, .*; .*python3.6 is 3.6"):
        recipe_of("hearbaseline.naive", str(old))
    with pytest.raises(ValueError, match="--interpreter no/python is not a program"):
        recipe_of("hearbaseline.naive", "no/python")
    monkeypatch.setattr(foreign_environment, "find_pythons", dict)
    monkeypatch.setitem(known_modules(), "hear_old", {"about": "", "pythons": {"3.6": []}, "install_alone": []})
    with pytest.raises(ValueError, match=r"hear_old needs Python 3.6, and there is none here; install one, or name it"):
        recipe_of("hear_old")


def test_the_list_has_what_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["hearbaseline.naive", "-"]
    check_baselines(["logmel", "hearbaseline.naive"])
    with pytest.raises(
        ValueError, match="'naive' is not a baseline; give none, logmel, untrained, or both, and modules of hear-ssl foreign"
    ):
        check_baselines(["naive"])
    with pytest.raises(ValueError, match=r"has no environment; make it with hear-ssl foreign hearbaseline.naive"):
        load_known("hearbaseline.naive", "", tmp_path)
    folder = default_folder("hearbaseline.naive")
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / COMPLETE).write_text("{}")
    assert built_python("hearbaseline.naive") == str(folder / "env" / "bin" / "python")
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["hearbaseline.naive", "ready"]
    with pytest.raises(ValueError, match=r"is not a program; .*; hear-ssl foreign hearbaseline.naive makes its environment again"):
        load_anywhere("hearbaseline.naive", "", "", tmp_path)


@pytest.mark.slow
def test_an_environment_is_made_checked_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "source", tmp_path / "environment"
    source.mkdir()
    (source / "setup.py").write_text(SETUP)
    (source / "hear_tiny.py").write_text("raise RuntimeError('not yet')")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's way to spell it: without isolation, so nothing is downloaded
    pins = {
        "about": "",
        "links": ["numpy"],
        "pythons": {f"{sys.version_info[0]}.{sys.version_info[1]}": []},
        "install_alone": [str(source)],
    }
    monkeypatch.setitem(known_modules(), "hear_tiny", pins)
    recipe = recipe_of("hear_tiny")
    with pytest.raises(ValueError, match="RuntimeError: not yet") as caught:
        make(recipe, folder)
    assert "not yet" in Path(str(caught.value).rpartition("is in ")[2]).read_text()  # the log is still there
    assert not (folder / COMPLETE).exists()
    (source / "hear_tiny.py").write_text(MODULE)
    made = (folder / "base.json").stat().st_mtime_ns
    assert make(recipe, folder) == python_in(folder)
    assert (folder / "base.json").stat().st_mtime_ns == made  # Python and torch stayed
    assert json.loads((folder / COMPLETE).read_text())["install_alone"] == [str(source)]
    monkeypatch.setattr(foreign_environment, "pip", None)  # nothing is installed again
    make(recipe, folder)
    with folder_lock(folder, ""), pytest.raises(ValueError, match=r"another process is writing to .*; wait for it to end"):
        make(recipe, folder)
    other = Recipe(**{**vars(recipe), "install": ["none==1"]})
    (folder / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="has other things than an environment of hear-ssl foreign; give an empty folder with --to"):
        make(other, folder)
    assert (folder / "mine.txt").exists()
