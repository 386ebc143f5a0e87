"""A run goes on by what is asked for now, and what does not fit its checkpoint is refused in one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import wandb

from examples.reference.combine import combine
from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import load_config
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, ROOT, TINY, tiny
from tests.training.test_fit import command, decoding_workers, script


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps and return the run folder."""
    run = tmp_path_factory.mktemp("resumed") / "run"
    assert fit(tiny(shards, run), resume=False) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_optimizer_settings_of_the_arguments_count(shards: Path, run: Path) -> None:
    asked = ("optimizer.learning_rate=1e-7", "optimizer.final_learning_rate=0", "optimizer.weight_decay=0.5", "optimizer.beta2=0.9")
    fit(tiny(shards, run, "trainer.steps=8", *asked), resume=True)
    rates = [float(row["learning_rate"]) for row in read_metrics(run / "metrics.csv")[1]]
    assert max(rates[:6]) > 1e-6
    assert max(rates[6:]) < 1e-7
    groups = load_checkpoint(run)["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert {group["betas"] for group in groups} == {(0.9, 0.9)}


def test_what_was_asked_for_is_kept_once_it_is_not_refused(shards: Path, run: Path) -> None:
    with pytest.raises(ValueError, match=r"data.batch_size was 8"):
        fit(tiny(shards, run, "trainer.steps=9", "data.batch_size=4"), resume=True)
    assert load_config(run / "config.yaml", []).data.batch_size == 8
    fit(tiny(shards, run, "trainer.steps=7"), resume=True)
    assert load_config(run / "config.yaml", []).trainer.steps == 7


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("encoder.audio_ntt.dim=64", r"trained with encoder\.audio_ntt\.dim=32, not 64"),
        ("views.0.augment.2.memory=8", r"views\.views\.0\.2\.memory is \(16, .*\) there, \(8, .*\) by them; resume without them"),
        ("data.crops.0.seconds=1.0", r"views\.views\.0\.2\.memory is \(.*\) there, \(.*\) by them"),
        ("optimizer.frozen=[convolutions]", r"another optimizer\.frozen"),
    ],
)
def test_arguments_that_the_checkpoint_does_not_fit_are_named(shards: Path, finished: Path, change: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        fit(tiny(shards, finished, "trainer.steps=7", change), resume=True)


def test_a_checkpoint_without_a_training_is_refused(shards: Path, run: Path) -> None:
    both = combine([run], random=True)
    (run / "checkpoints" / "last.ckpt").unlink()
    torch.save(both, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="holds a model, not the state of a training"):
        fit(
            tiny(
                shards,
                run,
                "trainer.steps=7",
            ),
            resume=True,
        )


def test_more_gpus_than_there_are_get_one_line_and_no_folder(shards: Path, tmp_path: Path) -> None:
    asked = (f"trainer.devices={torch.cuda.device_count() + 1}", "trainer.accelerator=gpu")
    with pytest.raises(ValueError, match=r"torch finds \d+ GPUs here"):
        fit(tiny(shards, tmp_path / "run", *asked), resume=False)
    assert not (tmp_path / "run").exists()


def test_wandb_goes_on_with_the_same_run(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def refuse(**options: str) -> None:
        given.append((options["id"], options["resume"]))
        raise wandb.Error("no account")

    monkeypatch.setattr("wandb.init", refuse)
    for resume in (False, False):
        with pytest.raises(ValueError, match=r"wandb=online cannot start \(no account\); run `wandb login`"):
            fit(tiny(shards, tmp_path / "run", "wandb=online"), resume)
    assert given[0] == given[1]
    assert given[0][1] == "allow"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_end_of_a_job_reaches_all_its_processes_and_the_run_saves(shards: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    arguments = ["--config", str(ROOT / "configs/base.yaml"), f"data.shards={shards}", f"run={run}", *TINY, *NT_XENT, *MEMORY]
    line = command(*arguments, "trainer.steps=100000", "data.workers=1")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while len(read_metrics(run / "metrics.csv")[1]) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (worker,) = decoding_workers(process.pid)
    os.kill(worker, signal.SIGSTOP)  # a slow disk: the training waits for data
    time.sleep(1.0)
    os.killpg(process.pid, number)
    os.kill(worker, signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "")
    assert load_checkpoint(run)["global_step"] == int(read_metrics(run / "metrics.csv")[1][-1]["step"])


def catches_ctrl_c(process: int) -> bool:
    """Return whether a process handles SIGINT itself (proc(5): SigCgt)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")), 0)
    return bool(caught >> (signal.SIGINT - 1) & 1)


@pytest.mark.slow
def test_ctrl_c_while_modules_load_prints_no_traceback() -> None:
    process = subprocess.Popen(command("--help"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not catches_ctrl_c(process.pid):
        time.sleep(0.001)  # Python itself starts
    while process.poll() is None and catches_ctrl_c(process.pid):
        time.sleep(0.001)  # until the first lines of fit.py give Ctrl-C back to the system
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert script("--help").returncode == 0
