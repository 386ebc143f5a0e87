"""Texts of a config stay as they are spelled, and a run keeps whole paths: it resumes from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.packaging.package import without_places
from hear_ssl.training.config import load_config
from hear_ssl.training.places import whole_paths
from hear_ssl.training.settings import settings_keys
from hear_ssl.training.spelling import is_text
from tests.conftest import ROOT, TINY

SPELLINGS = (
    "2024_11_29",
    "007",
    "1e5",
    "1_000.5",
    "on",
    "no",
    "NULL",
    "~",
    "1:30",
    "12:30:45",
    "0x10",
    "0o17",
    "0b1",
    ".5",
    "+1",
    "2024-11-29",
)
FREE_TEXTS = [key for key, (hint, item) in settings_keys().items() if is_text(hint) and not item.metadata.get("choices")]


def test_every_kind_of_text_is_tried() -> None:
    assert {"name", "run", "output", "data.cache", "data.shards", "probe.tasks", "optimizer.frozen"} <= set(FREE_TEXTS)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_text_keeps_its_spelling(tmp_path: Path, spelling: str) -> None:
    for key in FREE_TEXTS:
        several = settings_keys()[key][0] is not str
        value = [spelling] if several else spelling
        assert attrgetter(key)(load_config(None, [f"{key}={spelling}"])) == value
        if several:
            assert attrgetter(key)(load_config(None, [f"{key}=[{spelling}, b]"])) == [spelling, "b"]
        *groups, leaf = key.split(".")
        lines = [f"{'  ' * depth}{group}:" for depth, group in enumerate(groups)]
        if several:
            file = tmp_path / "one.yaml"
            file.write_text("\n".join([*lines, f"{'  ' * len(groups)}{leaf}: {spelling}"]))
            assert attrgetter(key)(load_config(file, [])) == [spelling]
        for written in [f"[{spelling}, b]", f"\n{'  ' * len(groups)}- {spelling}\n{'  ' * len(groups)}- b"] if several else [spelling]:
            file = tmp_path / "config.yaml"
            file.write_text("\n".join([*lines, f"{'  ' * len(groups)}{leaf}: {written}  # a comment"]))
            assert attrgetter(key)(load_config(file, [])) == ([spelling, "b"] if several else spelling)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("a: b", "a: b"),
        ("C:", "C:"),
        ("a #1", "a #1"),
        ("- a", "- a"),
        ("'007'", "007"),
        ('"on"', "on"),
        (" a ", "a"),
        ("é=1", "é=1"),
        ("''", ""),
    ],
)
def test_a_text_on_the_command_line_is_kept_as_it_is(given: str, value: str) -> None:
    assert load_config(None, [f"name={given}"]).name == value


def test_numbers_and_switches_are_still_read_by_their_type(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("trainer: {steps: 1_000, precision: 32}\nprofile: on\noptimizer: {learning_rate: 1e-3}\ndata: {weights: [3, 1]}\n")
    config = load_config(file, ["speed.compile=no"])
    assert (config.trainer.steps, config.trainer.precision, config.profile, config.optimizer.learning_rate) == (1000, "32", True, 1e-3)
    assert (config.data.weights, config.speed.compile) == ([3.0, 1.0], False)


def test_paths_become_whole_and_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    shards = "data.shards=[s, ~/t, /u, 'v/a-{000000..000003}.tar', https://example.com/w, s3://x/y]"
    given = load_config(None, [shards, "probe.tasks=[tasks, ~]", "run=r", "output=~/runs", "data.cache=cache"])
    config = whole_paths(given)
    local = [f"{tmp_path}/s", "/home/me/t", "/u", f"{tmp_path}/v/a-{{000000..000003}}.tar"]
    assert config.data.shards == [*local, "https://example.com/w", "s3://x/y"]
    assert (config.probe.tasks, config.run, config.output) == ([f"{tmp_path}/tasks", "/home/me"], f"{tmp_path}/r", "/home/me/runs")
    assert config.data.cache == f"{tmp_path}/cache"
    assert whole_paths(config) == config
    assert whole_paths(load_config(None, [])).data.cache == "~/.cache/hear_ssl/shards"
    assert whole_paths(load_config(None, [])).run == ""


def test_an_export_holds_no_path_of_the_machine() -> None:
    config: dict[str, Any] = {
        "run": "/r",
        "output": "/o",
        "data": {"shards": ["/s"], "cache": "/c"},
        "probe": {"tasks": ["/t"], "every": 3},
    }
    assert without_places(config) == {"data": {"shards": [], "cache": "~/.cache/hear_ssl/shards"}, "probe": {"tasks": [], "every": 3}}
    assert without_places({"data": {"shards": ["/s"]}}) == {"data": {"shards": []}}


@pytest.mark.slow
def test_a_run_that_was_named_by_a_date_resumes_from_another_folder(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "2024_11_29").symlink_to(shards)
    (tmp_path / "recipe.yaml").write_text("name: 007\n")
    start = ["--config", "recipe.yaml", *TINY, "data.shards=2024_11_29", "objective.nt_xent.weight=1", "trainer.steps=2", "output=~/runs"]
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()

    def fit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "train" / "fit.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)

    done = fit(tmp_path, *start)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "home" / "runs").iterdir()
    assert run.name.startswith("007-")
    assert not (tmp_path / "~").exists()
    kept = load_config(run / "config.yaml", [])
    assert (kept.name, kept.data.shards, kept.run) == ("007", [str(tmp_path / "2024_11_29")], str(run))
    done = fit(run, "--resume", "../" + run.name, "trainer.steps=3")
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run)["global_step"] == 3
