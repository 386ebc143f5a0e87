"""Sweeps: how values are read and folders named, what is refused before anything starts, and whole sweeps in processes."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import hear_ssl as hs
from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.folder_lock import folder_lock
from hear_ssl.runs.run_folder import find_runs
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import load_config
from hear_ssl.training.fit_cli import main
from hear_ssl.training.sweep_plan import planned
from hear_ssl.training.sweep_processes import failure
from hear_ssl.training.sweep_values import combined, parse_sweep
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, TINY, tiny
from tests.training.test_wandb_record import described


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("seed=0,1", ["0", "1"]),
        ("data.x=[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("data.crops=[{seconds: 1, count: 2}],[{seconds: 2}]", ["[{seconds: 1, count: 2}]", "[{seconds: 2}]"]),
        ("encoder=vit, {vit: {depth: 2, heads: 1}}", ["vit", "{vit: {depth: 2, heads: 1}}"]),
        ("""init="a,b",'c,[d',it's""", ['"a,b"', "'c,[d'", "it's"]),
        ("data.shards=['a,b',\"c\"],d", ["['a,b',\"c\"]", "d"]),
        ("seed=3", ["3"]),
    ],
)
def test_commas_separate_values_outside_of_brackets_and_quotes(argument: str, values: list[str]) -> None:
    assert list(parse_sweep([argument]).values()) == [values]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seed"], "not of the form key=value,value"),
        (["seed=0,,1"], "has an empty value"),
        (["seed="], "has an empty value"),
        (["seed=0,1,0"], "has the value 0 twice"),
        (["seed=0", "seed=1"], "has seed twice"),
        (["data.crops=[{seconds: 1},2"], r"has no \] at its end"),
        (["name='a,b"], "cannot vary name"),
        (["init='a,b"], "has no ' at its end"),
        (["run=a,b"], "cannot vary run"),
    ],
)
def test_values_of_another_form_are_one_line(arguments: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        parse_sweep(arguments)
    assert "\n" not in str(refused.value)


def test_folders_are_named_by_the_keys_that_vary() -> None:
    keys = parse_sweep(["objective.nt_xent.temperature=0.05,0.1", "trainer.steps=9", "seed=0,1"])
    assert combined(keys) == {
        "temperature=0.05,seed=0": ["objective.nt_xent.temperature=0.05", "trainer.steps=9", "seed=0"],
        "temperature=0.05,seed=1": ["objective.nt_xent.temperature=0.05", "trainer.steps=9", "seed=1"],
        "temperature=0.1,seed=0": ["objective.nt_xent.temperature=0.1", "trainer.steps=9", "seed=0"],
        "temperature=0.1,seed=1": ["objective.nt_xent.temperature=0.1", "trainer.steps=9", "seed=1"],
    }
    assert list(combined(parse_sweep(["a.x=1,2", "b.x=3"]))) == ["x=1", "x=2"]
    assert next(iter(combined(parse_sweep(["a.x=1,2", "b.x=3,4"])))) == "a.x=1,b.x=3"
    assert list(combined(parse_sweep(["encoder=../my net.py:Net,vit"]))) == ["encoder=..-my-net.py-Net", "encoder=vit"]
    clashing = list(combined(parse_sweep(["x=[1],{1}"])))
    assert len(set(clashing)) == 2
    assert all(name.startswith("x=1-") for name in clashing)
    (long, _) = combined(parse_sweep([f"x={'a' * 300},b"]))
    assert len(long) < 120


def options(shards: Path, *more: str) -> list[str]:
    return [f"data.shards={shards}", *TINY, *NT_XENT, *MEMORY, *more]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["objective.nt_xent.temperature=0.1,-1"], r"objective\.nt_xent\.temperature is -1\.0; it must be at least"),
        (["seed=0,one"], "seed"),
        (["objective.nt_xent.temprature=0.1"], "did you mean 'objective.nt_xent.temperature'"),
        (["optimizer.beta1=0.9,0.90"], r"has one config twice, beta1=0\.9 and beta1=0\.90"),
        (["seed=0,1", "--at-once", "0"], "at-once is 0"),
        (["data.batch_size=8,1000", "trainer.devices=3"], "must be a multiple of the 3 ranks"),
        (["seed=0,1", "data.shards=/nowhere"], "/nowhere"),
        (["seed=0,1", "init=nowhere/run"], "nowhere"),
        (["seed=0,1", "probe.every=2"], "probe.tasks names no task"),
        (["seed=0,1", "--slurm", "nodes=[1"], "not of the form key=value, such as timeout_min"),
        (["seed=0,1", "--slurm", "timeout"], "not of the form key=value, such as timeout_min"),
        (["seed=0,1", "--slurm", "cluster=local"], "give timeout_min"),
        (["seed=0,1", "--slurm", "cluster=moon"], "cluster=moon is unknown"),
        (["seed=0,1", "--slurm", "cluster=local", "timeout_min=5", "slurm_moon=1"], "submitit refuses the jobs .*slurm_moon"),
        (
            ["seed=0,1", "data.shards=https://me:secret@example.com/s", "--slurm", "cluster=local", "timeout_min=5"],
            "example.com/s has credentials",
        ),
    ],
)
def test_a_mistake_in_any_run_is_one_line_before_the_first_starts(arguments: list[str], line: str, shards: Path, tmp_path: Path) -> None:
    if "--slurm" in arguments:
        pytest.importorskip("submitit")
    with pytest.raises(ValueError, match=line) as refused:
        main(["--config", "simclr", *options(shards, f"output={tmp_path}"), "--sweep", *arguments])
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.rglob("logs"))


def test_options_of_a_sweep_need_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--at-once and --slurm are for a sweep"):
        main(["--config", "simclr", "--at-once", "2"])
    with pytest.raises(ValueError, match="leave --resume out"):
        main(["--resume", str(tmp_path), "--sweep", "seed=0,1"])


@pytest.mark.slow
def test_what_is_done_is_left_out_and_another_config_refused(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    fixed = options(shards, f"run={folder}", "trainer.steps=1")
    keys = parse_sweep(["seed=0,1,2,3"])
    fit(tiny(shards, folder / "seed=0", "trainer.steps=1", recipe="simclr"), resume=False)
    for name, state in (("seed=1", "stopped"), ("seed=2", "failed")):
        shutil.copytree(folder / "seed=0", folder / name)
        (folder / name / "state.json").write_text((folder / "seed=0" / "state.json").read_text().replace('"done"', f'"{state}"'))
        text = (folder / "seed=0" / "config.yaml").read_text().replace("seed: 0", f"seed: {name[-1]}")
        (folder / name / "config.yaml").write_text(text)
    shutil.rmtree(folder / "seed=2" / "checkpoints")
    found, plan = planned("simclr", fixed, keys)
    runs = list(plan)
    assert found == folder
    assert {run.name: run.state() for run in runs} == {"seed=0": "done", "seed=1": "resume", "seed=2": "new", "seed=3": "new"}
    assert runs[1].command() == ["--resume", str(folder / "seed=1"), f"data.shards={shards}"]
    assert runs[3].command()[-2:] == ["seed=3", f"run={folder / 'seed=3'}"]
    with pytest.raises(ValueError, match=r"seed=0 was trained with trainer\.steps=1, not 2; sweep into another folder"):
        planned("simclr", [*fixed, "trainer.steps=2"], keys)
    with pytest.raises(ValueError, match="is the folder of a run; give run=FOLDER"):
        planned("simclr", [*options(shards), f"run={folder / 'seed=0'}"], keys)
    with folder_lock(folder, ""), pytest.raises(ValueError, match="wait for that sweep to end"):
        main(["--config", "simclr", *fixed, "--sweep", "seed=0,1"])


def test_python_gives_the_same_arguments(shards: Path, tmp_path: Path) -> None:
    """Sweep over one run that is done: by a mapping, whose file the runs would read."""
    folder = tmp_path / "sweep"
    fit(tiny(shards, folder / "seed=3", "trainer.steps=1", "seed=3", recipe="simclr"), resume=False)
    overrides: dict[str, Any] = {key: yaml.safe_load(value) for key, value in (one.split("=") for one in (*TINY, *NT_XENT, *MEMORY))}
    given = {"shards": shards, "run": folder, "overrides": overrides | {"trainer.steps": 1}}
    done = hs.sweep({"base": "simclr"}, {"seed": [3]}, **given)
    assert (done.folder, done.failures, list(done.runs)) == (folder, {}, ["seed=3"])
    assert done.page == folder / "compare.html"
    assert load_config(folder / "recipe.yaml", []).name == "simclr"
    with pytest.raises(ValueError, match="has an address with credentials"):
        hs.sweep({"base": "simclr", "data": {"shards": "https://me:secret@example.com/s"}}, {"seed": [3]}, run=folder)
    with pytest.raises(ValueError, match="give lists of values by dotted keys"):
        hs.sweep("simclr", {"seed": "0,1"})


def test_why_a_run_failed_is_one_line() -> None:
    assert failure(-signal.SIGKILL, "step 3") == "ended by SIGKILL, perhaps for want of memory"
    assert failure(128 + signal.SIGTERM, "") == "ended by SIGTERM"
    assert failure(2, "error: no shards") == "no shards"
    assert failure(1, "") == "exit status 1"


@pytest.mark.slow
def test_a_sweep_stops_resumes_as_jobs_and_lists_what_failed(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stop it by Ctrl-C in the first of two runs, then resume it with submitit's executor for this machine: the second run collapses."""
    pytest.importorskip("submitit")
    folder = tmp_path / "sweep"
    fixed = options(shards, f"run={folder}", "trainer.steps=60", "wandb=offline")
    command = ["--config", "simclr", *fixed, "--sweep", "trainer.collapse_rank=0,1000"]
    first, second = folder / "collapse_rank=0", folder / "collapse_rank=1000"

    def interrupt() -> None:
        deadline = time.monotonic() + 120
        while len(read_metrics(first / "metrics.csv")[1]) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main(command) == 128 + signal.SIGINT
    assert 5 <= load_checkpoint(first)["global_step"] < 60
    assert not second.exists()
    assert "not done  collapse_rank=0: stopped: SIGINT" in capsys.readouterr().out

    assert main([*command, "--slurm", "cluster=local", "timeout_min=5"]) == 1
    printed = capsys.readouterr().out
    assert [int(row["step"]) for row in read_metrics(first / "metrics.csv")[1]] == list(range(1, 61))
    assert f"sweep {folder}: 1 of 2 runs are done" in printed
    assert "not done  collapse_rank=1000: the embeddings collapsed: effective rank" in printed
    assert {run.path.name: run.state.state for run in find_runs([folder])} == {first.name: "done", second.name: "failed"}
    assert "<svg" in (folder / "compare.html").read_text()
    assert len(list((folder / "submitit").glob("*_submitted.pkl"))) == 2
    groups = {(described(path).run_group, described(path).display_name) for path in folder.glob("*/wandb/offline-run-*/*.wandb")}
    assert groups == {("sweep", first.name), ("sweep", second.name)}
