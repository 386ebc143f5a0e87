"""Commands work on machines without a user's name, a home folder, all of the cores or srun; what cannot work is one line."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import soundfile
import torch

from hear_ssl.machine import cpu_quota, expand_home, lacks_to_compile, started_by_srun, usable_cores, user_path
from tests.conftest import ROOT, TINY

NAMES = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")


@cache
def unshare(*options: str) -> bool:
    """Return whether unshare(1) may make such namespaces here."""
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", *options, "true"], capture_output=True).returncode == 0


NAMELESS = ("--user", "--map-user=12345", "--map-group=12345")
MOUNTS = ("--mount",) if os.geteuid() == 0 else ("--user", "--map-root-user", "--mount")
needs_users = pytest.mark.skipif(not unshare(*NAMELESS), reason="no user namespaces here")
needs_mounts = pytest.mark.skipif(not unshare(*MOUNTS), reason="no mount namespaces here")


def fit(*arguments: str, before: tuple[str, ...] = (), **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run fit.py after a prefix, with environment variables set or, by None, left out."""
    environment = {key: value for key, value in {**os.environ, **variables}.items() if value is not None}
    command = [*before, sys.executable, str(ROOT / "train" / "fit.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def asked(shards: Path, run: Path, *overrides: str) -> list[str]:
    given = [*TINY, "trainer.steps=1", "objective.nt_xent.weight=1", *overrides]
    recipe = run.parent / "recipe.yaml"
    recipe.write_text("name: base\n")
    return ["--config", str(recipe), f"data.shards={shards}", f"run={run}", *given]


def mounted(line: str) -> tuple[str, ...]:
    """Return a prefix that changes mounts before the command, seen by it alone."""
    return ("unshare", *MOUNTS, "sh", "-c", f'{line} && exec "$@"', "sh")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000"}, 2.0),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"docker/a/cpu.max": "50000 100000", "docker/cpu.max": "400000 100000"}, 0.5),
        ({"docker/a/cpu.max": "max 100000", "docker/cpu.max": "150000 100000"}, 1.5),
        ({"cpu/docker/a/cpu.cfs_quota_us": "300000", "cpu/docker/a/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "25000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({"cpu.max": "damaged"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_quota_is_the_smallest_of_a_cgroup_and_those_above(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "membership").write_text("3:cpu,cpuacct:/docker/a\n0::/docker/a\n")
    assert cpu_quota(tmp_path, tmp_path / "membership") == cores


def test_cores_are_those_of_the_affinity_and_at_most_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    every = len(os.sched_getaffinity(0))
    for quota, cores in ((math.inf, every), (0.5, 1), (0.01, 1), (every - 0.5, every), (every + 3.0, every)):
        monkeypatch.setattr("hear_ssl.machine.cpu_quota", lambda quota=quota: quota)
        assert usable_cores() == cores


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "sys.argv = ['p', 'x', '--out', 'y']; from hear_ssl.data.pack import parse_arguments as p; print(p().workers)",
        "import argparse; from hear_ssl.synthesis.command import add_output_options as a; p = argparse.ArgumentParser(); a(p, 0);"
        " print(p.parse_args(['--out', 'x']).workers)",
        "from hear_ssl.training.trainer import TrainerConfig, machine; print(machine(TrainerConfig()).cores)",
    ],
)
def test_every_default_counts_the_cores_of_the_process(line: str) -> None:
    core = min(os.sched_getaffinity(0))
    code = f"import os, sys; os.sched_setaffinity(0, [{core}]); {line}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr


def test_no_module_counts_cores_by_itself() -> None:
    counted = [path.name for path in (ROOT / "hear_ssl").rglob("*.py") if "sched_getaffinity" in path.read_text()]
    assert counted == ["machine.py"]
    users = {path.name for path in (ROOT / "hear_ssl").rglob("*.py") if "cpu_count" in path.read_text()}
    assert users == {"machine.py", "environment.py"}  # which records the machine's


def test_home_is_expanded_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/runs", "output") == f"{tmp_path}/runs"
    assert expand_home("~", "output") == str(tmp_path)
    assert user_path("a/~/b") == "a/~/b"
    with pytest.raises(FileNotFoundError, match=r"the path is ~nobody_here, but there is no user nobody_here; write \./~nobody_here"):
        user_path("~nobody_here")
    with pytest.raises(ValueError, match=r"output is ~nobody_here/x, but there is no user nobody_here"):
        expand_home("~nobody_here/x", "output")


@pytest.mark.slow
@needs_users
def test_a_user_without_name_and_home_trains(shards: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    nothing = dict.fromkeys(NAMES)
    done = fit(*asked(shards, tmp_path / "run", "wandb=offline"), before=("unshare", *NAMELESS), **nothing)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run").glob("wandb/offline-run-*"))
    done = fit(*asked(shards, tmp_path / "other", "output=~/runs"), before=("unshare", *NAMELESS), **nothing)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "output is ~/runs, but there is no home folder; set HOME" in done.stderr


@pytest.mark.slow
@needs_mounts
def test_a_home_that_cannot_be_written_is_left_alone(shards: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    read_only = mounted(f"mount --bind {home} {home} && mount -o remount,ro,bind {home}")
    done = fit(*asked(shards, tmp_path / "run", "wandb=offline"), before=read_only, HOME=str(home), TMPDIR=str(home))
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    assert "Matplotlib" not in done.stderr


@pytest.mark.slow
@needs_mounts
def test_shared_memory_that_is_too_small_is_named_with_the_remedy(shards: Path, tmp_path: Path) -> None:
    small = mounted("mount -t tmpfs -o size=64m tmpfs /dev/shm")
    batch = ("data.batch_size=256", "data.workers=1", "data.crops.0.seconds=1")
    done = fit(*asked(shards, tmp_path / "run", *batch), before=small)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "/dev/shm has 67 MB free, 4 batches of 33 MB from decoding workers need 131 MB" in done.stderr
    assert "--shm-size=1g, or set data.workers=0" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_mounts
def test_folders_that_cannot_be_written_are_named_with_the_key(shards: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    read_only = mounted(f"mount --bind {home} {home} && mount -o remount,ro,bind {home}")
    for override, line in (
        (f"run={home}/run", f"run folder {home}/run cannot be made: Read-only file system; give another with run=FOLDER"),
        ("data.shards=https://localhost:9/shards", f"data.cache {home}/.cache/hear_ssl/shards cannot be made: Read-only file system; give"),
    ):
        done = fit(*asked(shards, tmp_path / "run", override), before=read_only, HOME=str(home))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert line in done.stderr


@pytest.mark.slow
@needs_mounts
def test_shared_memory_that_is_just_enough_suffices(shards: Path, tmp_path: Path) -> None:
    """Batches of 64 clips, two crops of 10,240 samples: 5.24 MB, of which one worker and the training hold four at once."""
    just = mounted("mount -t tmpfs -o size=21000k tmpfs /dev/shm")
    done = fit(*asked(shards, tmp_path / "run", "data.batch_size=64", "data.workers=1", "trainer.steps=8"), before=just)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_git_and_compiler_training_works_and_compiling_is_refused(shards: Path, tmp_path: Path) -> None:
    done = fit(*asked(shards, tmp_path / "run"), PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["git_revision"] == "unknown"
    done = fit(*asked(shards, tmp_path / "compiled", "speed.compile=true"), PATH=str(tmp_path), CXX=None)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "speed.compile=true needs a C++ compiler" in done.stderr
    assert not (tmp_path / "compiled").exists()


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_one_line(shards: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    fresh = str(tmp_path / "cache")
    done = fit(*asked(shards, tmp_path / "run", "speed.compile=true"), CXX=str(compiler), TORCHINDUCTOR_CACHE_DIR=fresh)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr[-2000:]
    assert re.match(r"error: torch.compile failed \(.*\); set speed.compile=false", done.stderr)


def test_what_compiling_lacks_follows_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "C++ compiler (g++)" in lacks_to_compile(gpu=False)
    (tmp_path / "clang").touch(mode=0o755)
    assert "C++ compiler" in lacks_to_compile(gpu=False)
    assert "C compiler" not in lacks_to_compile(gpu=True)
    monkeypatch.setenv("CXX", "clang")
    assert "C++ compiler" not in lacks_to_compile(gpu=False)


JOB = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "train"}
BATCH = {**JOB, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{**JOB, "SLURM_NTASKS_PER_NODE": "4"}, BATCH])
def test_variables_of_a_slurm_job_without_srun_change_nothing(shards: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    done = fit(*asked(shards, tmp_path / "run"), **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "overrides", "line"),
    [
        (JOB, ("trainer.nodes=2",), "trainer.nodes is 2, but srun did not start this process"),
        ({**BATCH, "SLURM_STEP_ID": "0"}, (), "srun started 4 tasks, trainer.devices=1 and trainer.nodes=1 ask for 1"),
    ],
)
def test_what_contradicts_slurm_is_one_line(
    shards: Path, tmp_path: Path, variables: dict[str, str], overrides: tuple[str, ...], line: str
) -> None:
    done = fit(*asked(shards, tmp_path / "run", *overrides), **variables)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert line in done.stderr
    assert not (tmp_path / "run").exists()


def test_srun_is_told_from_a_batch_script(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(variable)
    assert not started_by_srun(1)
    for name, value in BATCH.items():
        monkeypatch.setenv(name, value)
    assert not started_by_srun(1)
    assert started_by_srun(4)  # as many processes as tasks
    for step, started in (("0", True), ("12", True), (str(0xFFFFFFFA), False)):
        monkeypatch.setenv("SLURM_STEP_ID", step)
        assert started_by_srun(1) is started


@pytest.mark.slow
def test_paths_of_commands_are_expanded(tmp_path: Path) -> None:
    """A shell does not expand ~ after = in an option."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", (torch.rand(16000) - 0.5).numpy(), 16000)
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hear_ssl.data.pack", "~/in", "--out=~/shards", "--license=MIT", "--workers=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shards" / "index.json").is_file()
    for command in (["hear_ssl.evaluate", "--module=~/run", "--tasks=~/tasks", "--out=~/out"], ["hear_ssl.data.reindex", "~/empty"]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{tmp_path}/" in done.stderr
    options = ["--checkpoint=~/run", "--name=hear_x", "--version=1.0", "--weights-url=https://a.b/c", "--out=~/dist"]
    command = [sys.executable, str(ROOT / "export" / "package.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/run" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("~")]
