"""Checkpoints of a run: damage is found, an earlier one is used, none is overwritten, old ones are removed."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.checkpoint import load_checkpoint, numbered_checkpoints
from hear_ssl.evaluation.model_under_test import load_model_under_test
from hear_ssl.training.checkpoints import outdated
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, ROOT, TINY, tiny
from tests.training.test_fit import assert_same, command, decoding_workers, script

EVERY_TWO = ("trainer.checkpoint_every=2",)


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps with a checkpoint every two and return the run folder."""
    run = tmp_path_factory.mktemp("checkpoints") / "run"
    assert fit(tiny(shards, run, *EVERY_TWO), resume=False) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def names(run: Path) -> list[str]:
    return sorted(path.relative_to(run / "checkpoints").as_posix() for path in (run / "checkpoints").rglob("*.ckpt"))


def damage(path: Path, seed: int = 0) -> None:
    """Flip one bit of a file."""
    generator = random.Random(seed)
    with open(path, "rb+") as file:
        place = generator.randrange(path.stat().st_size)
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << generator.randrange(8)]))


def test_the_last_checkpoint_is_a_copy(finished: Path) -> None:
    last, newest = finished / "checkpoints" / "last.ckpt", finished / "checkpoints" / "step-00000006.ckpt"
    assert last.read_bytes() == newest.read_bytes()
    assert not last.is_symlink()
    assert not last.samefile(newest)


@pytest.mark.slow
def test_a_flipped_bit_is_found_by_resume_and_evaluation(shards: Path, run: Path) -> None:
    for path in (run / "checkpoints").glob("step-*.ckpt"):
        path.unlink()
    last = run / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    for seed in range(20):
        last.write_bytes(content)
        damage(last, seed)
        with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
            fit(tiny(shards, run, "trainer.steps=7"), resume=True)
        with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
            load_model_under_test(str(run))


@pytest.mark.parametrize("harm", ["flipped", "truncated", "empty", "missing"])
def test_a_run_resumes_from_its_newest_whole_checkpoint(
    shards: Path, run: Path, finished: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    last, newest = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "step-00000006.ckpt"
    if harm == "missing":
        last.unlink()
    elif harm == "flipped":
        damage(last)
    else:
        last.write_bytes(last.read_bytes()[: 0 if harm == "empty" else 5000])
    damage(newest, seed=1)
    capsys.readouterr()
    assert fit(tiny(shards, run, *EVERY_TWO), resume=True) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "resuming from" in line]
    what = f"{last} is {'missing' if harm == 'missing' else 'damaged'}"
    whole = run / "checkpoints" / "step-00000004.ckpt"
    if harm == "missing":
        what = f"{newest} is damaged"
    assert lines == [f"{what}: resuming from {whole}, the newest whole checkpoint"]
    assert_same(run, finished)


def test_a_run_without_a_whole_checkpoint_is_one_line(shards: Path, run: Path) -> None:
    for path in (run / "checkpoints").glob("*.ckpt"):
        damage(path)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged or no checkpoint \(.*\); use an earlier one"):
        fit(tiny(shards, run, "trainer.steps=8"), resume=True)


@pytest.mark.slow
def test_resuming_from_a_file_sets_later_checkpoints_aside(shards: Path, run: Path) -> None:
    before = {path.name: path.read_bytes() for path in numbered_checkpoints(run / "checkpoints")}
    result = script("--resume", str(run / "checkpoints" / "step-00000002.ckpt"), "trainer.steps=5")
    assert result.returncode == 0, result.stderr
    assert f"2 checkpoints after step 2 were moved to {run / 'checkpoints' / 'replaced-1'}" in result.stdout
    assert names(run) == [
        "last.ckpt",
        "replaced-1/step-00000004.ckpt",
        "replaced-1/step-00000006.ckpt",
        "step-00000002.ckpt",
        "step-00000004.ckpt",
        "step-00000005.ckpt",
    ]
    assert load_checkpoint(run)["global_step"] == 5
    for name in ("step-00000004.ckpt", "step-00000006.ckpt"):
        assert (run / "checkpoints" / "replaced-1" / name).read_bytes() == before[name]


def test_a_file_of_no_run_is_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "elsewhere" / "a.ckpt")
    result = script("--resume", str(path))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "lies in no run folder; give RUN/checkpoints/step-N.ckpt" in result.stderr


@pytest.mark.parametrize("left", ["last.ckpt", "step-00000004.ckpt", "best.ckpt"])
def test_a_new_run_is_refused_where_there_is_any_checkpoint(shards: Path, run: Path, left: str) -> None:
    for path in (run / "checkpoints").glob("*.ckpt"):
        if path.name != left:
            path.unlink() if left != "best.ckpt" else path.rename(path.with_name(left))
    content = (run / "checkpoints" / left).read_bytes()
    with pytest.raises(ValueError, match="holds a run already; resume it with --resume"):
        fit(tiny(shards, run), resume=False)
    assert (run / "checkpoints" / left).read_bytes() == content


def test_old_checkpoints_are_removed_and_the_run_is_the_same(shards: Path, tmp_path: Path) -> None:
    every = ("trainer.steps=7", "trainer.checkpoint_every=1")
    fit(tiny(shards, tmp_path / "few", *every, "trainer.keep_checkpoints=2", "trainer.keep_every=3"), resume=False)
    fit(tiny(shards, tmp_path / "all", *every), resume=False)
    kept = ["last.ckpt", *(f"step-{step:08d}.ckpt" for step in (3, 6, 7))]
    assert names(tmp_path / "few") == kept
    assert len(names(tmp_path / "all")) == 8
    assert_same(tmp_path / "few", tmp_path / "all")


@pytest.mark.parametrize(("keep", "every", "best", "left"), [(0, 0, -1, "1234567"), (1, 0, -1, "7"), (2, 0, 3, "367"), (1, 2, 3, "23467")])
def test_which_checkpoints_are_old(keep: int, every: int, best: int, left: str) -> None:
    files = [Path(f"step-{step:08d}.ckpt") for step in range(7, 0, -1)]
    old = outdated(files, keep, every, best)
    assert "".join(str(int(path.stem[5:])) for path in reversed(files) if path not in old) == left


def test_the_checkpoint_of_the_best_probe_stays(shards: Path, run: Path) -> None:
    (run / "checkpoints" / "best.json").write_text(json.dumps({"step": 2, "probe": 0.5}))
    fit(tiny(shards, run, *EVERY_TWO, "trainer.steps=8", "trainer.keep_checkpoints=1"), resume=True)
    assert names(run) == ["last.ckpt", "step-00000002.ckpt", "step-00000008.ckpt"]


def test_a_checkpoint_needs_no_temporary_folder(shards: Path, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "a file in $TMPDIR was asked for")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkstemp", "NamedTemporaryFile", "TemporaryFile"):
            patch.setattr(tempfile, name, refuse)
        fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    assert load_checkpoint(tmp_path / "run")["global_step"] == 1


def test_metrics_that_are_no_text_are_one_line_and_stay(shards: Path, run: Path) -> None:
    (run / "metrics.csv").write_bytes("step,loss\n1,2\n".encode("utf-16"))
    before = (run / "metrics.csv").read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged .*; repair or remove it, nothing else is lost"):
        fit(tiny(shards, run, "trainer.steps=8"), resume=True)
    assert (run / "metrics.csv").read_bytes() == before
    (run / "metrics.csv").unlink()
    assert fit(tiny(shards, run, "trainer.steps=8"), resume=True) == 0


@pytest.mark.parametrize("kept", [b"", b"\n", b"\xff\xfe", b"a/b"])
def test_a_damaged_id_of_the_wandb_record_begins_a_new_one(shards: Path, run: Path, kept: bytes) -> None:
    (run / "wandb_id").write_bytes(kept)
    assert fit(tiny(shards, run, "trainer.steps=7", "wandb=offline"), resume=True) == 0
    assert len((run / "wandb_id").read_text().split()[0]) == 8


def started(shards: Path, *overrides: str) -> subprocess.Popen[str]:
    arguments = ["--config", str(ROOT / "configs/base.yaml"), f"data.shards={shards}", *TINY, *NT_XENT, *MEMORY, *overrides]
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_runs_of_one_second_have_folders_of_their_own(shards: Path, tmp_path: Path) -> None:
    overrides = (f"output={tmp_path}", "trainer.steps=2", "trainer.checkpoint_every=1")
    time.sleep(1.05 - time.time() % 1)  # so that they start in one second
    runs = [started(shards, *overrides, f"seed={seed}") for seed in range(3)]
    for process in runs:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 3
    assert {load_checkpoint(folder)["config"]["seed"] for folder in folders} == {0, 1, 2}
    assert all(names(folder) == ["last.ckpt", "step-00000001.ckpt", "step-00000002.ckpt"] for folder in folders)


@pytest.mark.slow
def test_one_folder_has_one_run_at_a_time(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = started(shards, f"run={run}", "trainer.steps=100000", "trainer.checkpoint_every=1", "trainer.keep_checkpoints=2")
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert first.poll() is None
        time.sleep(0.1)
    for arguments in (["--resume", str(run)], ["--resume", str(run / "checkpoints" / "last.ckpt")]):
        result = script(*arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "another process is writing to" in result.stderr
    first.kill()
    first.communicate()
    result = script("--resume", str(run), f"trainer.steps={load_checkpoint(run)['global_step'] + 1}")
    assert result.returncode == 0, result.stderr
    assert not list(run.rglob("*.part"))


def with_a_stopped_worker(shards: Path, run: Path, *overrides: str) -> tuple[subprocess.Popen[str], int]:
    """Return a run of 200 steps after five of them, with one of its two workers stopped, and the process of that worker."""
    process = started(shards, f"run={run}", "trainer.steps=200", "trainer.checkpoint_every=1000", "data.workers=2", *overrides)
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) < 6:
        assert process.poll() is None
        time.sleep(0.05)
    worker = decoding_workers(process.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    return process, worker


@pytest.mark.slow
def test_a_run_that_a_stopped_worker_ended_resumes_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process, worker = with_a_stopped_worker(shards, run, "data.worker_timeout=3")
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.count("\n")) == (2, 1)
    assert f"(process {worker}) is stopped by a signal: nothing came from it for 3 s, data.worker_timeout allows 3" in errors
    assert time.monotonic() - start < 15
    assert not Path(f"/proc/{worker}").exists()
    assert 5 <= load_checkpoint(run)["global_step"] < 200
    resumed = script("--resume", str(run))
    assert resumed.returncode == 0, resumed.stderr
    straight = started(shards, f"run={tmp_path / 'straight'}", "trainer.steps=200", "trainer.checkpoint_every=1000")
    _, errors = straight.communicate(timeout=120)
    assert straight.returncode == 0, errors
    assert_same(run, tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_run_with_a_stopped_worker_ends_by_sigterm(shards: Path, tmp_path: Path, signals: int) -> None:
    run = tmp_path / "run"
    process, worker = with_a_stopped_worker(shards, run)
    time.sleep(1.0)
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.8)
    start = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert time.monotonic() - start < 15
    assert not Path(f"/proc/{worker}").exists()
    if signals == 1:
        assert "stopped by SIGTERM; saved. Resume with" in output
        assert load_checkpoint(run)["global_step"] >= 5
    else:
        assert "ended at once by a second signal, not saved" in output
