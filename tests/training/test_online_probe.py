"""The probe during training: scores arrive, the best is kept, and training's own numbers never know of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.evaluation.model_under_test import from_checkpoint
from hear_ssl.evaluation.protocol.quick_probe import probe_all, probe_tasks
from hear_ssl.packaging.package import last_metrics
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, TINY, tiny
from tests.evaluation.test_evaluate import make_scene
from tests.training.test_fit import bad_input, losses, script, started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("tasks") / "scene")


@pytest.fixture(scope="module")
def probed(shards: Path, task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps, probe after the second, fourth and last, and return the run folder; a row only every third step."""
    run = tmp_path_factory.mktemp("probed") / "run"
    recipe = run.with_name("plain.yaml")
    recipe.write_text("name: base\nobjective: {nt_xent: {weight: 1}}\n")
    often = ("probe.every=2", f"probe.tasks={task}", "trainer.log_every=3", "trainer.checkpoint_every=2", "wandb=offline")
    result = script("--config", str(recipe), f"data.shards={shards}", f"run={run}", *TINY, *NT_XENT, *MEMORY, *often)
    assert result.returncode == 0, result.stderr
    return run


def test_scores_stand_in_metrics_csv_at_their_step_and_in_wandb(probed: Path) -> None:
    columns, rows = read_metrics(probed / "metrics.csv")
    assert {"probe", "probe_scene_knn", "probe_scene_linear"} <= set(columns)
    assert [(row["step"], bool(row["probe"]), bool(row["loss"])) for row in rows] == [
        ("1", False, True),
        ("2", True, False),
        ("3", False, True),
        ("4", True, False),
        ("6", True, True),
    ]
    assert all(0.0 <= float(row["probe"]) <= 1.0 for row in rows if row["probe"])
    [record] = probed.rglob("*.wandb")
    assert b"probe_scene_linear" in record.read_bytes()
    assert last_metrics(probed / "checkpoints" / "last.ckpt", 5)["step"] == 3


def test_the_best_checkpoint_is_the_step_with_the_highest_probe(probed: Path, task: Path) -> None:
    rows = [row for row in read_metrics(probed / "metrics.csv")[1] if row["probe"]]
    best = max(rows, key=lambda row: float(row["probe"]))
    kept = json.loads((probed / "checkpoints" / "best.json").read_text())
    assert kept["step"] == int(best["step"])
    checkpoint = load_checkpoint(probed / "checkpoints" / "best.ckpt")
    whole = load_checkpoint(probed / "checkpoints" / f"step-{kept['step']:08d}.ckpt")
    assert checkpoint["global_step"] == kept["step"]
    assert checkpoint["data_card"] == whole["data_card"]
    assert set(checkpoint["state_dict"]) == {name for name in whole["state_dict"] if name.startswith("embedder.")}
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in checkpoint["state_dict"].items())
    scores = probe_all(probe_tasks([str(task)], 400, 800.0, 0), from_checkpoint(probed / "checkpoints" / "best.ckpt"))
    assert scores["probe"] == pytest.approx(kept["probe"], abs=1e-6)
    assert list((probed / "probe").iterdir()) == []


def test_training_draws_the_same_curve_without_it(shards: Path, probed: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "trainer.log_every=3", "trainer.checkpoint_every=2"), resume=False)
    assert [loss for loss in losses(probed) if loss] == losses(tmp_path / "run")
    one, other = (load_checkpoint(run)["state_dict"] for run in (probed, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_progress_line_names_the_latest_probe(shards: Path, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fit(tiny(shards, run, "probe.every=1", f"probe.tasks={task}", "trainer.steps=1"), resume=False)
    fit(tiny(shards, run, "probe.every=1", f"probe.tasks={task}", "trainer.steps=2"), resume=True)
    output = capsys.readouterr().out
    value = float(read_metrics(run / "metrics.csv")[1][0]["probe"])
    assert f"probe of step 1: {value:.4f} (best)  scene_knn" in output
    assert "waiting for the probe of step 2" in output


def test_resuming_keeps_the_best_and_scores_what_was_left(shards: Path, probed: Path, task: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(probed, tmp_path / "run", ignore=shutil.ignore_patterns("wandb")))
    checkpoints = run / "checkpoints"
    kept = json.loads((checkpoints / "best.json").read_text())
    (checkpoints / "best.json").write_text(json.dumps(kept | {"probe": 2.0}))
    before = (checkpoints / "best.ckpt").read_bytes()
    for step in (5, 7):  # one left unscored by the stop, one from steps that are made again
        shutil.copyfile(checkpoints / "best.ckpt", run / "probe" / f"step-{step:08d}.ckpt")
    config = tiny(shards, run, "probe.every=100", f"probe.tasks={task}", "trainer.steps=8", "trainer.log_every=3")
    assert fit(config, resume=True) == 0
    assert (checkpoints / "best.ckpt").read_bytes() == before
    probes = {int(row["step"]): row["probe"] for row in read_metrics(run / "metrics.csv")[1] if row["probe"]}
    assert set(probes) == {2, 4, 5, 6, 8}
    assert float(probes[5]) == pytest.approx(kept["probe"], abs=1e-6)
    assert list((run / "probe").iterdir()) == []


def children(process: int) -> set[int]:
    return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def prober_of(process: subprocess.Popen[str]) -> int:
    """Return the process that scores for a training."""
    [found] = [
        child for child in children(process.pid) if "hear_ssl.evaluation.protocol.quick_probe" in Path(f"/proc/{child}/cmdline").read_text()
    ]
    return found


def ends(process: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_behind(shards: Path, task: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path / "run", shards, "probe.every=10", f"probe.tasks={task}")
    prober = prober_of(process)
    assert os.getpriority(os.PRIO_PROCESS, prober) == 19
    process.send_signal(number)
    process.communicate(timeout=60)
    assert ends(prober)


def test_training_goes_on_when_the_prober_dies(shards: Path, task: Path, tmp_path: Path) -> None:
    process = started(tmp_path / "run", shards, "probe.every=10", f"probe.tasks={task}")
    os.kill(prober_of(process), signal.SIGKILL)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("no more probes: the probe's process ended by itself"):
            break
    assert process.stdout.readline().startswith("step ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_clip_lost_on_the_way_costs_a_probe_and_not_the_run(
    shards: Path, task: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from hear_ssl.evaluation.protocol.quick_probe import answer

    folder = Path(shutil.copytree(task, tmp_path / "scene"))
    tasks = probe_tasks([str(folder)], 400, 800.0, 0)
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    (folder / "16000" / "valid" / "valid3.wav").unlink()
    assert "valid3.wav is missing" in str(answer(tasks, tmp_path / "run")["error"])


def test_mistakes_are_one_line_before_anything_is_written(shards: Path, task: Path, tmp_path: Path) -> None:
    base = ["--config", "configs/base.yaml", f"data.shards={shards}", f"run={tmp_path / 'run'}", "probe.every=5"]
    bad_input("probe.tasks names no task", *base)
    bad_input("nowhere holds no task (a folder with task_metadata.json)", *base, f"probe.tasks={tmp_path / 'nowhere'}")
    broken = Path(shutil.copytree(task, tmp_path / "broken"))
    (broken / "labelvocabulary.csv").unlink()
    bad_input("broken/labelvocabulary.csv is missing", *base, f"probe.tasks={broken}")
    assert not (tmp_path / "run").exists()
