"""Training as a user meets it: run folder, resume, stop, and one line for each mistake."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.checkpoint import embedder_from_checkpoint, load_checkpoint
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import Config, load_config
from hear_ssl.training.trainer import fit
from tests.conftest import HEADS, MEMORY, NT_XENT, ROOT, TINY, tiny

KILLED = (
    "simclr",
    "moco_v3",
    "byol_a",
    "clip_frame_pitch",
)  # what a checkpoint holds besides the encoder: a head; a teacher; mixup's memory; more terms
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train" / "fit.py"), *arguments]


def script(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run fit.py as a user does."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=timeout)


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run)["state_dict"]
    return state


def losses(run: Path) -> list[str]:
    return [row["loss"] for row in read_metrics(run / "metrics.csv")[1]]


def assert_same(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(one) == losses(other)


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps and return the run folder."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert fit(tiny(shards, run), resume=False) == 0
    return run


def test_a_run_folder_holds_config_environment_metrics_and_checkpoints(finished: Path) -> None:
    assert load_config(finished / "config.yaml", []).trainer.steps == 6
    assert json.loads((finished / "environment.json").read_text())["packages"]["torch"].startswith("2.")
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert {"loss", "effective_rank", "spread", "alignment", "uniformity", "gradient_norm", "data_wait_share", "clips_per_second"} <= set(
        rows[0]
    )
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["last.ckpt", "step-00000003.ckpt", "step-00000006.ckpt"]


def test_a_checkpoint_is_plain_data_with_config_and_data_card(finished: Path) -> None:
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert type(checkpoint["config"]) is dict
    assert checkpoint["data_card"]["sources"][0]["license"]
    embedder, _ = embedder_from_checkpoint(finished)
    assert embedder.scene(torch.zeros(1, 16000)).shape == (1, embedder.scene_embedding_size)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(shards: Path, finished: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "again"), resume=False)
    assert_same(finished, tmp_path / "again")
    fit(tiny(shards, tmp_path / "other", "seed=1"), resume=False)
    assert losses(tmp_path / "other") != losses(finished)


@pytest.mark.slow
def test_two_workers_give_the_bits_of_none(shards: Path, finished: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "data.workers=2"), resume=False)
    assert_same(finished, tmp_path / "run")


@pytest.mark.parametrize("recipe", [pytest.param(name, marks=() if name in ("base", "byol_a") else pytest.mark.slow) for name in RECIPES])
def test_resume_within_a_pass_equals_the_uninterrupted_run(shards: Path, tmp_path: Path, recipe: str) -> None:
    options = ("trainer.steps=7", "trainer.checkpoint_every=4")  # a pass is three batches: from the second pass into the third
    whole, resumed = (tiny(shards, tmp_path / name, *options, recipe=recipe) for name in ("whole", "resumed"))
    fit(whole, resume=False)
    fit(resumed, resume=False)
    checkpoints = tmp_path / "resumed" / "checkpoints"
    (checkpoints / "step-00000007.ckpt").unlink()
    (checkpoints / "last.ckpt").unlink()
    os.link(checkpoints / "step-00000004.ckpt", checkpoints / "last.ckpt")
    assert fit(resumed, resume=True) == 0
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def killed(config: Config, steps: int) -> None:
    """Train in a process of its own and SIGKILL it once so many steps are done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hear_ssl.training.trainer"])
    process = context.Process(target=fit, args=(config, False))
    process.start()
    deadline = time.monotonic() + 90
    while len(read_metrics(Path(config.run) / "metrics.csv")[1]) < steps:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", KILLED)
def test_after_sigkill_a_recipe_of_each_kind_ends_with_the_same_bits_for_any_workers(shards: Path, tmp_path: Path, recipe: str) -> None:
    length = ("trainer.steps=48", "trainer.checkpoint_every=2")
    fit(tiny(shards, tmp_path / "whole", *length, recipe=recipe), resume=False)
    for before, after in ((0, 2), (2, 0)):
        run = tmp_path / f"workers{before}"
        config = tiny(shards, run, *length, f"data.workers={before}", recipe=recipe)
        killed(config, 5 + len(recipe) % 7)  # within a pass for some, between passes for others
        assert 4 <= load_checkpoint(run)["global_step"] < 48
        assert fit(replace(config, data=replace(config.data, workers=after)), resume=True) == 0
        assert_same(tmp_path / "whole", run)


@pytest.mark.parametrize(
    ("change", "line"), [("data.batch_size=4", "data.batch_size was 8 and is 4 now"), ("seed=3", "seed was 0 and is 3")]
)
def test_resuming_with_another_order_is_refused(shards: Path, finished: Path, change: str, line: str) -> None:
    with pytest.raises(ValueError, match=f"{line}.*set it as it was, or start a new run"):
        fit(tiny(shards, finished, "trainer.steps=7", change), resume=True)


def test_resuming_with_other_shards_is_refused_and_moved_ones_are_not(shards: Path, finished: Path, tmp_path: Path) -> None:
    from hear_ssl.synthesis.instruments import write_corpus

    write_corpus(tmp_path / "others", clips=24, seed=1)
    with pytest.raises(ValueError, match=r"data.shards holds other shards, or in another order"):
        fit(tiny(tmp_path / "others", finished, "trainer.steps=7"), resume=True)
    shutil.copytree(shards, tmp_path / "moved")
    shutil.copytree(finished, tmp_path / "run")
    assert fit(tiny(tmp_path / "moved", tmp_path / "run", "trainer.steps=7"), resume=True) == 0


def started(run: Path, shards: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a long run and return once it has made five steps."""
    arguments = [f"data.shards={shards}", f"run={run}", *TINY, *NT_XENT, *MEMORY, "trainer.steps=100000", *overrides]
    command_line = command("--config", str(ROOT / "configs/base.yaml"), *arguments)
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while len(read_metrics(run / "metrics.csv")[1]) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_resume(shards: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    process = started(run, shards)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output.splitlines()[-1].endswith(f"--resume {run}")
    step = load_checkpoint(run)["global_step"]
    assert step == int(read_metrics(run / "metrics.csv")[1][-1]["step"])
    result = script("--resume", str(run), f"trainer.steps={step + 3}")
    assert result.returncode == 0, result.stderr
    assert load_checkpoint(run)["global_step"] == step + 3


def decoding_workers(pid: int) -> list[int]:
    """Return the processes that the forkserver of a run has started."""

    def children(parent: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    return [worker for child in children(pid) for worker in children(child)]


@pytest.mark.slow
def test_a_decoding_worker_that_is_killed_ends_the_run_with_one_line(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(run, shards, "data.workers=1")

    workers = decoding_workers(process.pid)
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(r"error: a decoding worker died \(.*\); is memory short\? Lower data.workers, then --resume\n", errors)
    assert script("--resume", str(run), f"trainer.steps={load_checkpoint(run)['global_step'] + 3}").returncode == 0


@pytest.mark.slow
def test_after_sigkill_the_run_goes_on_to_the_same_end(shards: Path, tmp_path: Path) -> None:
    length = ("trainer.steps=150", "trainer.checkpoint_every=4", "data.workers=2")
    process = started(tmp_path / "killed", shards, *length, *HEADS["frame"])
    workers = decoding_workers(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they end with it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert load_checkpoint(tmp_path / "killed")["global_step"] < 150
    resumed = script("--resume", str(tmp_path / "killed"))
    assert resumed.returncode == 0, resumed.stderr
    fit(tiny(shards, tmp_path / "whole", *length, "data.workers=0", "name=base", recipe="base"), resume=False)
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_a_run_from_before_a_key_existed_goes_on(shards: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for part, key in (("frontend", "layout"), ("frontend", "min_window"), ("encoder", "context")):
        del (checkpoint["config"][part]["audio_ntt"] if part == "encoder" else checkpoint["config"][part])[key]
    path.unlink()
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"trained with frontend\.layout=mel, not log"):
        fit(tiny(shards, run, "trainer.steps=7", "frontend.layout=log", "frontend.min_window=256"), resume=True)
    assert fit(tiny(shards, run, "trainer.steps=7"), resume=True) == 0


def test_a_new_run_never_overwrites_an_old_one(shards: Path, finished: Path) -> None:
    with pytest.raises(ValueError, match="holds a run already; resume it with --resume"):
        fit(tiny(shards, finished), resume=False)


def test_a_damaged_checkpoint_is_named(shards: Path, tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_bytes((finished / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"last.ckpt is damaged"):
        fit(tiny(shards, run), resume=True)


def test_a_collapsed_run_stops_and_says_so(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the embeddings collapsed: effective rank .* lower the learning rate"):
        fit(tiny(shards, tmp_path / "run", "trainer.collapse_rank=1000"), resume=False)


def test_a_loss_that_is_not_finite_stops_the_run(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the loss is .* lower optimizer.learning_rate"):
        fit(
            tiny(shards, tmp_path / "run", "optimizer.learning_rate=100", "optimizer.clip_norm=0", "objective.nt_xent.weight=1e38"),
            resume=False,
        )


def bad_input(line: str, *arguments: str) -> None:
    result = script(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert line in result.stderr


@pytest.mark.slow
def test_mistakes_on_the_command_line_get_one_line(tmp_path: Path) -> None:
    base = str(ROOT / "configs/base.yaml")
    bad_input("did you mean 'trainer.steps'?", "--config", base, "trainer.stps=3")
    bad_input("trainer.precision is '16'; allowed are 32, bf16", "--config", base, "trainer.precision='16'")
    bad_input("data.batch_size is 1; it must be at least 2", "--config", base, "data.batch_size=1")
    bad_input("does not exist; give the path of a YAML file", "--config", str(tmp_path / "none.yaml"))
    bad_input("is not a run folder", "--resume", str(tmp_path))


@pytest.mark.slow
def test_mistakes_about_the_data_get_one_line(tmp_path: Path) -> None:
    base = str(ROOT / "configs/base.yaml")
    run = f"run={tmp_path / 'run'}"
    bad_input("missing does not exist; pack one with", "--config", base, f"data.shards={tmp_path / 'missing'}", run)
    bad_input("index.json", "--config", base, f"data.shards={tmp_path}", run)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_config_without_an_objective_is_refused_before_there_is_a_run_folder(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("name: empty\n")
    overrides = ["data.workers=0", "wandb=disabled", f"run={tmp_path / 'run'}", f"data.shards={shards}"]
    line = "the config names no objective; name one, such as objective=nt_xent or objective.nt_xent.weight=1"
    bad_input(line, "--config", str(tmp_path / "empty.yaml"), *overrides)
    assert not (tmp_path / "run").exists()


def test_a_config_trains_the_objectives_that_it_names_and_no_others(shards: Path, tmp_path: Path) -> None:
    config = tiny(shards, tmp_path / "run", "objective.nt_xent.weight=0", "objective.byol.weight=1", "trainer.steps=1")
    fit(config, resume=False)
    assert [name for name in read_metrics(tmp_path / "run" / "metrics.csv")[0] if name.startswith("loss_")] == ["loss_byol"]
    assert Config().objective == {}


def test_training_pools_by_a_key_of_its_own(shards: Path, tmp_path: Path) -> None:
    """The compositions of the embedder are for probe and export."""
    curves = {}
    for name, override in {"plain": "trainer.steps=3", "scene": "scene.0.how=std", "pool": "training_pool=max"}.items():
        fit(tiny(shards, tmp_path / name, "trainer.steps=3", override), resume=False)
        curves[name] = losses(tmp_path / name)
    assert curves["plain"] == curves["scene"] != curves["pool"]
    line = "was trained with training_pool=mean+max, not mean; resume without it"
    with pytest.raises(ValueError, match=re.escape(line)):
        fit(tiny(shards, tmp_path / "plain", "trainer.steps=4", "training_pool=mean"), resume=True)


def test_frames_need_one_crop(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"objective.frame compares views of one crop token by token, but views.1 shows another crop than views.0"
    ):
        fit(tiny(shards, tmp_path / "run", "objective.frame.weight=1", "data.crops.0.count=2"), resume=False)


def test_shards_of_another_rate_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pack again with --sample-rate 32000"):
        fit(tiny(shards, tmp_path / "run", "frontend.sample_rate=32000"), resume=False)


@pytest.mark.parametrize("processes", ["trainer.devices=3", "trainer.nodes=3"])
def test_processes_that_cannot_share_a_batch_are_refused_before_any_data_is_looked_for(tmp_path: Path, processes: str) -> None:
    with pytest.raises(ValueError, match=r"data.batch_size is 8; it must be a multiple of the 3 ranks"):
        fit(tiny(tmp_path / "missing", tmp_path / "run", processes), resume=False)


def fill(path: Path) -> None:
    """Write until no block is left."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_the_earlier_checkpoint(shards: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a tmpfs")
    try:
        config = tiny(shards, disk / "run", "trainer.steps=4", "trainer.checkpoint_every=2", "encoder.audio_ntt.dim=64")
        filler = disk / "filler"
        first = fit(replace(config, trainer=replace(config.trainer, steps=2)), resume=False)
        assert first == 0
        kept = load_checkpoint(disk / "run")
        fill(filler)
        with pytest.raises(OSError, match=r"cannot write|No space left"):
            fit(config, resume=True)
        filler.unlink()
        assert load_checkpoint(disk / "run")["global_step"] == kept["global_step"] == 2
        assert [path.name for path in (disk / "run" / "checkpoints").iterdir() if path.suffix != ".ckpt"] == []
        assert fit(config, resume=True) == 0
        assert load_checkpoint(disk / "run")["global_step"] == 4
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_help_lists_every_key_with_default_and_unit() -> None:
    start = time.monotonic()
    text = script("--help").stdout
    assert "data.crops: list[CropConfig] = [{count: 2, seconds: 2.08}]" in text
    assert "objective.vicreg.covariance" in text
    assert time.monotonic() - start < 30


def test_wandb_is_only_written_when_asked(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("wandb was used")

    monkeypatch.setattr("wandb.init", refuse)
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    assert not list(tmp_path.rglob("wandb"))
