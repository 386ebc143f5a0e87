"""Training from shards without an index: SIGKILL and resume give the losses of a run without a stop; what differs is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import load_config, resumed_config
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.stream_datamodule import StreamDataModule, data_module
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, ROOT, TINY, tiny
from tests.data.plain_shards import flac, plain_folder, write_tar
from tests.training.test_ranks import TORCHRUN

FIXED = ("encoder.audio_ntt.dropout=0", "data.license=CC0-1.0")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_folder(tmp_path_factory.mktemp("corpus") / "speech", [20, 15, 12], rate=22050)


def losses(run: Path) -> list[tuple[int, str]]:
    return [(int(row["step"]), row["loss"]) for row in read_metrics(run / "metrics.csv")[1]]


def back_to(run: Path, step: int) -> None:
    """Leave of a run what it was after `step` steps."""
    folder = run / "checkpoints"
    for path in folder.glob("step-*.ckpt"):
        if path.name > f"step-{step:08d}.ckpt":
            path.unlink()
    shutil.copyfile(folder / f"step-{step:08d}.ckpt", folder / "last.ckpt")


def test_a_run_resumes_with_the_next_batch_bit_for_bit(speech: Path, tmp_path: Path) -> None:
    config = tiny(speech, tmp_path / "run", *FIXED)
    assert fit(config, resume=False) == 0
    whole = losses(tmp_path / "run")
    assert len(whole) == 6
    back_to(tmp_path / "run", 3)
    assert fit(config, resume=True) == 0
    assert losses(tmp_path / "run") == whole
    card = load_checkpoint(tmp_path / "run")["data_card"]
    assert card["sources"] == [{"name": "speech", "license": "CC0-1.0", "hours": card["hours"], "clips": 47}]
    assert card["hours"] == pytest.approx(47 * 0.32 / 3600, rel=0.02)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("data.workers=2", r"data\.workers was 0 and is 2 now"),
        ("data.shuffle_mb=8", r"data\.shuffle_mb was 256\.0 and is 8\.0 now"),
        ("data.batch_size=4", r"data\.batch_size was 8 and is 4 now"),
        ("other", r"data\.shards holds other shards"),
        ("indexed", r"data\.shards holds other shards"),
    ],
)
def test_another_order_is_refused_in_one_line(speech: Path, shards: Path, tmp_path: Path, trained: Path, change: str, line: str) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    overrides = (change,) if "=" in change else ()
    data = {"other": f"{speech}/a-{{000..001}}.tar", "indexed": str(shards)}.get(change, speech)
    with pytest.raises(ValueError, match=line):
        fit(tiny(Path(data), run, *FIXED, *overrides, "trainer.steps=8"), resume=True)


@pytest.fixture(scope="module")
def trained(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three steps and return the run folder."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert fit(tiny(speech, run, *FIXED, "trainer.steps=3"), resume=False) == 0
    return run


def test_a_run_of_packed_shards_does_not_resume_from_a_stream(speech: Path, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit(tiny(shards, run, *FIXED, "trainer.steps=3"), resume=False) == 0
    with pytest.raises(ValueError, match=r"data\.shards holds other shards"):
        fit(tiny(speech, run, *FIXED), resume=True)


def test_commands_come_from_a_config_and_never_from_a_run_folder(speech: Path, tmp_path: Path) -> None:
    run, entry = tmp_path / "run", f"pipe:cat {speech}/a-{{000..002}}.tar"
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump({"data": {"shards": [entry]}}))
    assert load_config(config, []).data.shards == [entry]
    fit(tiny(speech, run, *FIXED, f'data.shards=["{entry}"]', "trainer.steps=3"), resume=False)
    with pytest.raises(ValueError, match=r"reads shards from a command \(pipe:cat .* give data\.shards="):
        resumed_config(run, [])
    again = resumed_config(run, [f'data.shards=["{entry}"]', "trainer.steps=4"])
    assert fit(again, resume=True) == 0


def test_secrets_of_commands_and_addresses_are_stored_nowhere(speech: Path, tmp_path: Path) -> None:
    secret = "https://me:hunter2@host/x?token=hunter2"
    run, entry = tmp_path / "run", f"pipe:true {secret} ; cat {speech}/a-000.tar"
    fit(tiny(speech, run, *FIXED, f'data.shards=["{entry}"]', "trainer.steps=3"), resume=False)
    for path in run.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_too_many_losses_end_a_run_with_one_line(speech: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    write_tar(folder / "a.tar", [member for clip in range(40) for member in ((f"{clip}.flac", flac(clip)), (f"x{clip}.txt", b"no sound"))])
    with pytest.raises(ValueError, match=r"clips were lost, more than data\.max_lost_fraction allows: .*a\.tar"):
        fit(tiny(folder, tmp_path / "run", *FIXED, "data.max_lost_fraction=0", "trainer.steps=20"), resume=False)


def test_the_data_module_follows_from_the_entries(speech: Path, shards: Path) -> None:
    crops = [CropConfig(0.5)]
    assert isinstance(data_module(DataConfig(shards=[str(shards)], crops=crops), 16000, 0), ShardDataModule)
    both = data_module(DataConfig(shards=[str(shards), str(speech)], crops=crops, license=["CC0-1.0"]), 16000, 0)
    assert isinstance(both, StreamDataModule)
    assert [source["name"] for source in both.data_card()["sources"]][-1] == "speech"
    assert both.pass_line() == "shards read in sequence: 4 (3 without an index); readers: 1"
    with pytest.raises(ValueError, match=r"data\.shards is empty"):
        data_module(DataConfig(), 16000, 0)


def arguments(shards: Path, run: Path, *overrides: str) -> list[str]:
    return [
        "--config",
        str(ROOT / "configs/simclr.yaml"),
        f"data.shards={shards}",
        f"run={run}",
        *TINY,
        *NT_XENT,
        *MEMORY,
        *FIXED,
        *overrides,
    ]


def started(command: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_has_the_losses_of_one_that_was_not(speech: Path, tmp_path: Path, workers: int) -> None:
    overrides = (f"data.workers={workers}", "trainer.steps=24", "trainer.checkpoint_every=2")
    command = [sys.executable, str(ROOT / "train/fit.py")]
    whole = subprocess.run([*command, *arguments(speech, tmp_path / "whole", *overrides)], capture_output=True, text=True, timeout=300)
    assert whole.returncode == 0, whole.stderr[-2000:]
    run = tmp_path / "killed"
    process = started([*command, *arguments(speech, run, *overrides)])
    deadline = time.monotonic() + 120
    while not (run / "checkpoints/step-00000006.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(losses(run)) < 24
    resumed = subprocess.run([*command, "--resume", str(run)], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert losses(run) == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_resume_exactly_and_one_alone_is_refused(speech: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = arguments(speech, run, "data.workers=1", "trainer.steps=6")
    assert subprocess.run([*TORCHRUN, *given], capture_output=True, timeout=300).returncode == 0
    whole = losses(run)
    back_to(run, 3)
    assert subprocess.run([*TORCHRUN, "--resume", str(run)], capture_output=True, timeout=300).returncode == 0
    assert losses(run) == whole
    back_to(run, 3)
    alone = subprocess.run([sys.executable, str(ROOT / "train/fit.py"), "--resume", str(run)], capture_output=True, text=True, timeout=300)
    assert alone.returncode == 2
    assert alone.stderr.strip().splitlines()[-1].startswith("error: the number of ranks was 2 and is 1 now")
