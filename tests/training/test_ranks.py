"""Training on two processes: the loss curve of one process, and a failure that ends them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hear_ssl.checkpoint import EMA, PREFIX, load_checkpoint
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.training.average import decay_at
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, RECIPES, ROOT, TINY, small_memory, tiny
from tests.data.stream.test_batch_stream import broken
from tests.evaluation.test_evaluate import make_scene

pytestmark = pytest.mark.slow


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(ROOT / "train/fit.py")]


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run fit.py on two CPU processes."""
    return subprocess.run([*TORCHRUN, *arguments], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("recipe", ["clip_frame_pitch", "byol_a", "simclr_strong"])
def test_two_processes_draw_the_loss_curve_of_one(shards: Path, tmp_path: Path, recipe: str) -> None:
    fixed = ("encoder.audio_ntt.dropout=0", "trainer.steps=8", "trainer.accelerator=cpu")
    config = tiny(shards, tmp_path / "one", *fixed, recipe=recipe)
    fit(config, resume=False)
    memory = small_memory(ROOT / "configs" / f"{recipe}.yaml")
    arguments = [f"data.shards={shards}", f"run={tmp_path / 'two'}", *TINY, *RECIPES[recipe], *memory, *fixed]
    result = torchrun("--config", str(ROOT / "configs" / f"{recipe}.yaml"), *arguments)
    assert result.returncode == 0, result.stderr[-2000:]
    curves = [[float(row["loss"]) for row in read_metrics(tmp_path / name / "metrics.csv")[1]] for name in ("one", "two")]
    assert len(curves[1]) == 8
    assert curves[1] == pytest.approx(curves[0], rel=5e-3)
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-5)
    ranks = [[float(row["effective_rank"]) for row in read_metrics(tmp_path / name / "metrics.csv")[1]] for name in ("one", "two")]
    assert ranks[1] == pytest.approx(ranks[0], rel=1e-2)


def curve(run: Path) -> list[float]:
    return [float(row["loss"]) for row in read_metrics(run / "metrics.csv")[1]]


def back_to_step_four(run: Path) -> None:
    """Leave of a run of eight steps what it was when it had made four."""
    checkpoints = run / "checkpoints"
    (checkpoints / "last.ckpt").unlink()
    os.link(checkpoints / "step-00000004.ckpt", checkpoints / "last.ckpt")
    (checkpoints / "step-00000008.ckpt").unlink()


@pytest.mark.parametrize("before", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes_in_the_same_order(shards: Path, tmp_path: Path, before: int) -> None:
    fixed = ("encoder.audio_ntt.dropout=0", "trainer.steps=8", "trainer.checkpoint_every=4")
    whole, changed = (tiny(shards, tmp_path / name, *fixed, recipe="simclr") for name in ("whole", "changed"))
    fit(whole, resume=False)
    expected = curve(tmp_path / "whole")
    if before == 1:
        fit(changed, resume=False)
        back_to_step_four(tmp_path / "changed")
        result = torchrun("--resume", str(tmp_path / "changed"), "data.workers=1")
        assert result.returncode == 0, result.stderr[-2000:]
    else:
        arguments = [f"data.shards={shards}", f"run={tmp_path / 'changed'}", *TINY, *NT_XENT, *MEMORY, *fixed]
        result = torchrun("--config", str(ROOT / "configs/simclr.yaml"), *arguments)
        assert result.returncode == 0, result.stderr[-2000:]
        back_to_step_four(tmp_path / "changed")
        assert fit(changed, resume=True) == 0
    assert load_checkpoint(tmp_path / "changed")["global_step"] == 8
    assert curve(tmp_path / "changed") == pytest.approx(expected, rel=5e-3)
    if before == 1:
        assert curve(tmp_path / "changed")[:4] == expected[:4]


def test_a_rank_that_dies_ends_the_other_with_the_cause(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [
        "--config",
        str(ROOT / "configs/base.yaml"),
        f"data.shards={shards}",
        f"run={run}",
        *TINY,
        *NT_XENT,
        "trainer.steps=100000",
    ]
    process = subprocess.Popen([*TORCHRUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(read_metrics(run / "metrics.csv")[1]) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [int(child) for child in children if "fit.py" in Path(f"/proc/{child}/cmdline").read_text()]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL) received" in errors
    assert not Path(f"/proc/{ranks[0]}").exists()
    assert len(read_metrics(run / "metrics.csv")[1]) >= 3


def test_a_mistake_on_two_processes_ends_both_with_its_line(shards: Path, tmp_path: Path) -> None:
    result = torchrun(
        "--config",
        str(ROOT / "configs/base.yaml"),
        f"data.shards={shards}",
        f"run={tmp_path / 'run'}",
        *TINY,
        *NT_XENT,
        "data.batch_size=7",
    )
    assert result.returncode != 0
    assert "must be a multiple of the 2 ranks" in result.stderr
    assert not (tmp_path / "run").exists()


SRUN = """#!{python}
import os, signal, subprocess, sys
tasks = []
for rank in ("0", "1"):
    slurm = dict(SLURM_NTASKS="2", SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NODEID="0", SLURM_JOB_NAME="hear_ssl")
    tasks.append(subprocess.Popen(sys.argv[2:], env={{**os.environ, **slurm}}))
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


def test_a_job_that_is_preempted_is_queued_again_and_goes_on(shards: Path, tmp_path: Path) -> None:
    """Run train/slurm.sbatch with a launcher that starts two processes and sets what srun sets."""
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", f'#!/bin/bash\necho "$@" >> {tmp_path}/queued\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "4711", "SLURM_NODELIST": "localhost"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = tmp_path / "run"
    command = ["bash", "train/slurm.sbatch", "configs/base.yaml", str(run), f"data.shards={shards}", *TINY, *NT_XENT, *MEMORY]
    job = subprocess.Popen([*command, "trainer.steps=100000"], cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(read_metrics(run / "metrics.csv")[1]) < 3:
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGUSR1)  # what --signal=USR1@120 sends to the steps
    assert job.wait(timeout=60) == 138
    assert (tmp_path / "queued").read_text() == "requeue 4711\n"
    saved = load_checkpoint(run)["global_step"]
    assert subprocess.run([*command, f"trainer.steps={saved + 3}"], cwd=ROOT, env=environment, timeout=120).returncode == 0
    assert load_checkpoint(run)["global_step"] == saved + 3
    assert [int(row["step"]) for row in read_metrics(run / "metrics.csv")[1]] == list(range(1, saved + 4))


def test_two_processes_have_one_probe(shards: Path, tmp_path: Path) -> None:
    task = make_scene(tmp_path / "scene")
    run = tmp_path / "run"
    probe = ("probe.every=3", f"probe.tasks={task}")
    result = torchrun(
        "--config", str(ROOT / "configs/simclr.yaml"), f"data.shards={shards}", f"run={run}", *TINY, *NT_XENT, *MEMORY, *probe
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("probe of step 3: ") == result.stdout.count("probe of step 6: ") == 1
    assert [row["step"] for row in read_metrics(run / "metrics.csv")[1] if row["probe"]] == ["3", "6"]
    assert (run / "checkpoints" / "best.ckpt").is_file()


def test_losses_and_average_after_resuming_are_those_of_both_processes(shards: Path, tmp_path: Path) -> None:
    folder, run = broken(shards, tmp_path / "broken", [0, 5, 20]), tmp_path / "run"
    fixed = ("data.max_lost_fraction=1", "trainer.steps=6", "trainer.checkpoint_every=3", "trainer.ema=0.5")  # two passes
    alone = tiny(folder, run, *fixed, recipe="simclr")
    stream = BatchStream(ShardSet([str(folder)]), alone.data, 16000, alone.seed)
    expected = [len(stream.batch(step).lost) for step in range(7)]  # by one process
    result = torchrun(
        "--config", str(ROOT / "configs/simclr.yaml"), f"data.shards={folder}", f"run={run}", *TINY, *NT_XENT, *MEMORY, *fixed
    )
    assert result.returncode == 0, result.stderr[-2000:]
    named = [Path(line.partition(": ")[0]).parent.name for line in result.stdout.splitlines() if line.startswith("lost a clip of ")]
    assert sorted(named) == sorted({Path(stream.shards.clips[number].shard).name for number in (0, 5, 20)})
    assert f"clips read 48, unreadable {sum(expected[:6])}, in shards: " in result.stdout
    resumed = torchrun("--resume", str(run), "trainer.steps=7")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "lost a clip of " not in resumed.stdout
    assert f"clips read 56, unreadable {sum(expected)}, in shards: " in resumed.stdout
    lost = [int(row["clips_lost"]) for row in read_metrics(run / "metrics.csv")[1]]
    assert lost == [sum(expected[: step + 1]) for step in range(7)]
    before, after = (load_checkpoint(run / "checkpoints" / f"step-{step:08d}.ckpt")["state_dict"] for step in (6, 7))
    names = [name for name in after if name.startswith(EMA) and after[name].is_floating_point()]
    assert names
    for name in names:
        trained = after[f"{PREFIX}encoder.{name.removeprefix(EMA)}"]
        assert torch.equal(after[name], torch.lerp(before[name], trained, 1 - decay_at(7, 0.5))), name
