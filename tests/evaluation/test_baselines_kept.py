"""Baselines: which are asked for, and that their scores are kept for every later evaluation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.evaluation import BASELINES
from hear_ssl.evaluation.__main__ import baseline_names
from hear_ssl.evaluation.baseline_scores import BaselineScores, cache_folder
from hear_ssl.evaluation.model_under_test import ModelUnderTest, from_checkpoint
from hear_ssl.evaluation.run import evaluate, models_to_compare
from hear_ssl.evaluation.scores_file import command_of
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny
from tests.evaluation.test_evaluate import QUICK, make_scene


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two runs of one architecture, and one of another; write a task."""
    base = tmp_path_factory.mktemp("kept")
    for name, options in (("a", ()), ("b", ("seed=1",)), ("c", ("encoder.audio_ntt.channels=8",))):
        fit(tiny(shards, base / name, "trainer.steps=2", *options), resume=False)
    make_scene(base / "tasks" / "scene", **QUICK)
    return base


def embedded(out: Path) -> set[str]:
    """Return the models that an evaluation embedded with."""
    return {path.name.rpartition("-")[0].partition("-")[0] for path in (out / "embeddings").iterdir()}


def scored(folder: Path, run: str, out: Path, kept: Path | None, grid: str = "fast") -> dict[str, float]:
    models = models_to_compare(str(folder / run), "", [])
    record = evaluate(models, [folder / "tasks" / "scene"], out, grid, 1, show=False, kept=kept)
    return {Path(name).name: result["score"] for name, result in record["tasks"]["scene"].items()}


@pytest.mark.slow
def test_a_later_evaluation_computes_no_baseline_again(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = scored(folder, "a", tmp_path / "first", kept)
    assert embedded(tmp_path / "first") == {"a", "untrained", "log"}
    second = scored(folder, "b", tmp_path / "second", kept)
    assert embedded(tmp_path / "second") == {"b"}
    assert (second["untrained"], second["log-mel"]) == (first["untrained"], first["log-mel"])
    third = scored(folder, "c", tmp_path / "third", kept)  # another architecture
    assert embedded(tmp_path / "third") == {"c", "untrained"}
    assert third["log-mel"] == first["log-mel"]
    scored(folder, "b", tmp_path / "grid", kept, "few-shot")
    assert embedded(tmp_path / "grid") == {"b", "untrained", "log"}
    other = make_scene(tmp_path / "tasks" / "scene", **QUICK)
    evaluate(models_to_compare(str(folder / "b"), "", []), [other], tmp_path / "task", "fast", 1, show=False, kept=kept)
    assert embedded(tmp_path / "task") == {"b", "untrained", "log"}
    scored(folder, "b", tmp_path / "without", None)
    assert embedded(tmp_path / "without") == {"b", "untrained", "log"}


def test_what_is_kept_is_checked_and_a_model_is_never_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    first = scored(folder, "a", tmp_path / "first", kept)
    files = sorted(kept.iterdir())
    assert len(files) == 2
    for path in files:
        content = json.loads(path.read_text())
        content["result"]["score"] = 0.123
        path.write_text(json.dumps(content))
    assert scored(folder, "a", tmp_path / "second", kept) == first
    assert len(re.findall(r"is damaged: the baseline is scored again", capsys.readouterr().err)) == 2
    files[0].write_text("[" * 100_000)
    assert scored(folder, "a", tmp_path / "third", kept) == first
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert scored(folder, "a", tmp_path / "fourth", blocked) == first
    assert capsys.readouterr().err.count("baselines are not kept for later evaluations") == 1
    model = from_checkpoint(folder / "a")
    BaselineScores(kept, "fast", 1).put(model, "task", {})
    assert len(list(kept.iterdir())) == 2


def test_a_user_without_a_home_has_no_kept_baselines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEAR_BASELINES_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HEAR_BASELINES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "hear_ssl" / "baselines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody_of_this_name").expanduser())
    assert cache_folder() is None


def named(text: str) -> list[str]:
    """Return the names in the table of the baselines that --baselines names."""
    return [BASELINES[name] for name in baseline_names(text)]


def names(models: list[ModelUnderTest]) -> list[str]:
    return [model.name for model in models[1:]]


def test_the_baselines_are_those_asked_for(folder: Path) -> None:
    run = str(folder / "a")
    assert names(models_to_compare(run, "", [])) == ["untrained", "log-mel"]
    assert names(models_to_compare(run, "", [], baselines=named("logmel"))) == ["log-mel"]
    assert names(models_to_compare(run, "", [], baselines=named("untrained"))) == ["untrained"]
    assert names(models_to_compare(run, "", [], baselines=named("none"))) == []
    assert named("untrained,logmel") == ["untrained", "log-mel"]
    record = {"grid": "fast", "seeds": 1, "tasks": {"scene": {run: {}, "untrained": {}}}}
    assert command_of(record, run, "", "TASKS", Path("out")).endswith("--grid fast --baselines untrained")


@pytest.mark.slow
def test_the_command_keeps_baselines_and_refuses_others(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hear_ssl.evaluate",
        "--module",
        str(folder / "a"),
        "--tasks",
        str(folder / "tasks"),
        "--grid",
        "few-shot",
    ]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)

    wrong = run("--out", str(tmp_path / "out"), "--baselines", "logmel,mfcc")
    assert wrong.returncode == 2
    assert "'mfcc' is not a baseline; give none, logmel, untrained, or both" in wrong.stderr
    alone = run("--out", str(tmp_path / "alone"), "--baselines", "none")
    assert alone.returncode == 0, alone.stderr
    assert embedded(tmp_path / "alone") == {"a"}
    assert alone.stdout.count(str(folder / "a")) >= 3
    for out, models in (("first", {"a", "untrained", "log"}), ("second", {"a"})):
        result = run("--out", str(tmp_path / out))
        assert result.returncode == 0, result.stderr
        assert embedded(tmp_path / out) == models
