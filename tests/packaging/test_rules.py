"""Verification catches every wrong module by the check made for it, and by no other; a right one passes all."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hear_ssl.packaging.rules import independence, memory, outputs, timing
from hear_ssl.packaging.rules.rows import Check, RuleResult, Submission, read_results, run_checks
from tests.conftest import ROOT
from tests.packaging.naive import Naive, Right
from tests.packaging.wrong_modules import SEVERAL, WRONG, frames_by, fresh

pytestmark = pytest.mark.slow
CHECKS = outputs.CHECKS + independence.CHECKS + timing.CHECKS


@functools.cache
def rows(name: str) -> dict[str, RuleResult]:
    """Return the rows of a module by name; '' is the right one."""
    torch.manual_seed(0)
    module = fresh(WRONG[name][0]) if name else Right()
    return {row.name: row for row in run_checks(Submission(module, module.load_model(), None), CHECKS)}


def broken(name: str) -> set[str]:
    return {row.name for row in rows(name).values() if row.passed is False}


def test_the_naive_baseline_passes_every_check() -> None:
    assert all(row.passed for row in rows("").values()), [row for row in rows("").values() if not row.passed]
    assert len(rows("")) == len(CHECKS)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_module_fails_the_check_made_for_it_and_no_other(name: str) -> None:
    assert broken(name) == {WRONG[name][1]} | SEVERAL.get(name, set())
    assert "\n" not in rows(name)[WRONG[name][1]].measured


def test_every_check_has_a_wrong_module() -> None:
    assert {check for _, check in WRONG.values()} == set(rows(""))


def test_the_burst_check_reports_by_how_many_ms_content_is_off() -> None:
    for name, off in (("", 0.0), ("content 50 ms early", -50.0), ("not centred", -32.0), ("49 ms late", 49.0)):
        assert float(rows(name)["bursts lie at their timestamps"].measured.split()[0]) == pytest.approx(off, abs=1.0), name


def hoards(right: Right, audio: torch.Tensor, model: Naive) -> torch.Tensor:
    """Hold 200 bytes for each sample while it embeds: 3.8 GB for 20 minutes."""
    held = torch.ones(audio.shape[1], 50)
    return right.frames(audio, model) + 0.0 * held[-1, -1]


def test_memory_that_grows_with_the_clip_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LIMIT_GB", 3.0)
    for module, passes in ((Right(), True), (frames_by(hoards), False)):
        [row] = run_checks(Submission(module, module.load_model(), None), [Check(memory.ten_minutes)])
        assert row.passed is passes, row.measured
    assert "of it weights and embeddings" in row.measured


def test_memory_is_not_measured_where_the_system_does_not_tell() -> None:
    assert memory.peak_since_start_gb() > 0.1
    clip = memory.LongAudio(float("nan"), 0.1, 1.0, 1.0, finite=True, whole=True)
    assert clip.row(clip.text()).passed is None
    assert replace(clip, whole=False).row(clip.text()).passed is False


WORKING = "import os\nfrom tests.packaging.naive import *\nfrom tests.packaging.naive import load_model as load\n"
MODULES = {
    "hear_writes": WORKING + "def load_model(path=''):\n    open('weights.pt', 'w').close()\n    return load(path)\n",
    "hear_killed": WORKING + "def get_scene_embeddings(audio, model):\n    os.kill(os.getpid(), 9)\n",
    "hear_raises": "raise RuntimeError('no\\nimport')\n",
}


def measured(name: str, folder: Path) -> list[RuleResult]:
    (folder / f"{name}.py").write_text(MODULES[name])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    command = [sys.executable, "-m", "hear_ssl.packaging.rules", name, str(folder / "rows"), "--memory", "none"]
    done = subprocess.run(command, env=environment, cwd=folder, check=False)
    return read_results(folder / "rows", f"status {done.returncode}")


def test_weights_that_are_written_where_one_happens_to_be_are_found(tmp_path: Path) -> None:
    found = [row for row in measured("hear_writes", tmp_path) if row.passed is False]
    assert [(row.name, row.measured) for row in found] == [("working directory left alone", "wrote weights.pt")]


def test_a_module_that_is_killed_leaves_its_rows_and_names_where(tmp_path: Path) -> None:
    found = measured("hear_killed", tmp_path)
    assert [(row.name, row.measured) for row in found if row.passed is False] == [("scene shape", "status -9")]
    assert len(found) > 4


def test_a_module_that_does_not_import_is_one_row(tmp_path: Path) -> None:
    [row] = measured("hear_raises", tmp_path)
    assert (row.name, row.passed, row.measured) == ("import and load", False, "raised RuntimeError: no import")
