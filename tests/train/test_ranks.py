"""Training on two processes: the loss curve of one process, and a failure that ends them all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.callbacks import read_rows
from tests.conftest import ROOT, TINY, tiny
from train.running import fit

pytestmark = pytest.mark.slow


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run fit.py on two CPU processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(ROOT / "train/fit.py")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("recipe", ["simclr", "clip_frame_pitch", "byol_a"])
def test_two_processes_draw_the_loss_curve_of_one(shards: Path, tmp_path: Path, recipe: str) -> None:
    fixed = ("embedder.encoder.dropout=0", "trainer.steps=8", "trainer.accelerator=cpu")
    config = tiny(shards, tmp_path / "one", *fixed, recipe=recipe)
    fit(config, resume=False)
    from tests.conftest import HEADS

    arguments = [f"data.shards={shards}", f"run={tmp_path / 'two'}", *TINY, *HEADS[recipe], *fixed]
    result = torchrun("--config", str(ROOT / "configs" / f"{recipe}.yaml"), *arguments)
    assert result.returncode == 0, result.stderr[-2000:]
    curves = [[float(row["loss"]) for row in read_rows(tmp_path / name / "metrics.csv")[1]] for name in ("one", "two")]
    assert len(curves[1]) == 8
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-5)
    ranks = [[float(row["effective_rank"]) for row in read_rows(tmp_path / name / "metrics.csv")[1]] for name in ("one", "two")]
    assert ranks[1] == pytest.approx(ranks[0], rel=1e-2)


def test_a_mistake_on_two_processes_ends_both_with_its_line(shards: Path, tmp_path: Path) -> None:
    result = torchrun("--config", str(ROOT / "configs/base.yaml"), f"data.shards={shards}", f"run={tmp_path}", *TINY, "data.batch_size=7")
    assert result.returncode != 0
    assert "must be a multiple of the 2 ranks" in result.stderr
