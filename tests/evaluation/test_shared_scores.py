"""Several evaluations write to one folder, and nothing that any of them found is lost; what is kept there is checked."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest
from hear_ssl.evaluation.protocol.predictor_cache import PredictorCache
from hear_ssl.evaluation.run import evaluate
from hear_ssl.evaluation.scores_file import OTHERS, ScoresFile, read_scores
from tests.conftest import ROOT
from tests.evaluation.protocol.test_predictor_cache import RESULT
from tests.evaluation.test_evaluate import QUICK, make_scene


def log_mel(name: str = "log-mel") -> ModelUnderTest:
    return ModelUnderTest(name, name, baselines, baselines.load_model())


def everything(record: dict[str, Any]) -> set[tuple[str, int, str, str]]:
    """Return the grid, seeds, task and model of every result in a record."""
    records = [record, *record.get(OTHERS, [])]
    return {(one["grid"], one["seeds"], task, name) for one in records for task, found in one["tasks"].items() for name in found}


def test_evaluations_one_after_the_other_keep_all_results(tmp_path: Path) -> None:
    tasks = [make_scene(tmp_path / "tasks" / name, **QUICK) for name in ("one", "two")]
    out = tmp_path / "out"
    expected = set()
    for grid, seeds, task in (("fast", 1, 0), ("official", 1, 1), ("fast", 2, 1), ("fast", 1, 1)):
        record = evaluate([log_mel()], [tasks[task]], out, grid, seeds, show=False)
        expected.add((grid, seeds, tasks[task].name, "log-mel"))
        assert everything(json.loads((out / "scores.json").read_text())) == expected
        assert (record["grid"], record["seeds"]) == (grid, seeds)
    assert set(read_scores(out)["tasks"]) == {"one", "two"}  # of the settings asked for last


@pytest.mark.slow
def test_evaluations_at_once_keep_all_results(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        make_scene(tmp_path / "tasks" / name, **QUICK)
    command = [sys.executable, "-m", "hear_ssl.evaluate", "--module", baselines.__name__, "--tasks", str(tmp_path / "tasks")]
    command += ["--out", str(tmp_path / "out")]
    asked = [("fast", "1", "one"), ("fast", "1", "two"), ("fast", "2", "three"), ("official", "1", "two")]
    running = [
        subprocess.Popen([*command, "--grid", grid, "--seeds", seeds, "--only", task], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for grid, seeds, task in asked
    ]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    found = everything(json.loads((tmp_path / "out" / "scores.json").read_text()))
    assert {(grid, int(seeds), task) for grid, seeds, task in asked} == {(grid, seeds, task) for grid, seeds, task, _ in found}


def test_results_are_merged_with_what_was_written_meanwhile(tmp_path: Path) -> None:
    one, other = (ScoresFile(tmp_path / "scores.json", "fast", seeds) for seeds in (1, 3))
    one.put("a", {"x": {"score": 1.0}}, {})
    other.put("a", {"x": {"score": 2.0}}, {})
    one.put("b", {}, {"x": "it failed", "y": "it failed"})
    one.put("b", {"x": {"score": 3.0}}, {})
    record = one.record()
    assert record["tasks"] == {"a": {"x": {"score": 1.0}}, "b": {"x": {"score": 3.0}}}
    assert record["faults"] == {"a": {}, "b": {"y": "it failed"}}
    assert other.record()["tasks"] == {"a": {"x": {"score": 2.0}}}


@pytest.mark.parametrize("content", [b"", b"[" * 50_000, b"\xff", b'{"grid": "fast"}', b"[]", b'{"tasks": {}, "faults": {}}'])
def test_scores_that_are_damaged_are_set_aside_and_computed_again(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.json").write_bytes(content)
    ScoresFile(tmp_path / "scores.json", "fast", 1).put("a", {"x": {"score": 1.0}}, {})
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "scores-damaged-1.json").read_bytes() == content
    assert read_scores(tmp_path)["tasks"] == {"a": {"x": {"score": 1.0}}}


def test_a_report_of_damaged_scores_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("[" * 50_000)
    with pytest.raises(ValueError, match=r"scores\.json is damaged .*; make it again with"):
        read_scores(tmp_path)


def test_kept_embeddings_with_a_flipped_byte_are_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make_scene(tmp_path / "scene")
    first = evaluate([log_mel()], [task], tmp_path / "out", "fast", 1, show=False)
    (kept,) = (tmp_path / "out" / "embeddings" / "log-mel").glob("scene-*-test.npz")
    content, generator = kept.read_bytes(), random.Random(0)
    for _ in range(20):
        place = generator.randrange(len(content))
        kept.write_bytes(content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :])
        (tmp_path / "out" / "scores.json").unlink()
        capsys.readouterr()
        again = evaluate([log_mel()], [task], tmp_path / "out", "fast", 1, show=False)
        assert f"{kept} is damaged" in capsys.readouterr().err
        assert again["tasks"]["scene"]["log-mel"]["scores"] == first["tasks"]["scene"]["log-mel"]["scores"]
        assert kept.read_bytes() == content


def test_a_kept_network_with_a_flipped_byte_is_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "networks.json"
    PredictorCache(path).result({"lr": 1e-3}, 0, 42, lambda: RESULT)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert PredictorCache(path).results in ({}, json.loads(content)["results"])  # a last digit may spell the same number
    assert "networks.json is damaged or of another version: its networks are trained again" in capsys.readouterr().err
