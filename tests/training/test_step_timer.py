"""Time is charged to the stage that took it, and a profiled run leaves its table and its trace."""

from __future__ import annotations

import csv
import gzip
import json
import time
from pathlib import Path

import pytest
import torch

from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.delayed_scalar import DelayedScalar
from hear_ssl.training.profiler import stage_rows
from hear_ssl.training.step_timer import STAGES, WORKER_STAGES, StepTimer
from hear_ssl.training.trainer import fit
from tests.conftest import tiny


def test_a_stage_is_charged_its_own_time() -> None:
    stages = StepTimer()
    before = dict(stages.seconds)
    with stages("views"):
        time.sleep(0.02)
    stages.end("copy")  # never begun
    stages.add({"read": 0.5})
    spent = stages.since(before)
    assert spent["views"] >= 0.02
    assert spent["read"] == 0.5
    assert all(value == 0 for name, value in spent.items() if name not in ("views", "read"))


def test_rows_of_the_training_process_sum_to_the_step() -> None:
    seconds = dict.fromkeys((*STAGES, *WORKER_STAGES), 0.0) | {"forward": 2.0, "backward": 3.0, "decode": 9.0}
    rows = stage_rows(seconds, elapsed=10.0, steps=4)
    training = [float(row["ms_per_step"]) for row in rows if row["process"] == "training"]
    assert sum(training) == pytest.approx(2500.0)
    assert next(row for row in rows if row["stage"] == "decode")["ms_per_step"] == "2250.000"
    assert next(row for row in rows if row["stage"] == "other")["share_of_step"] == "50.0%"


def test_a_number_on_the_cpu_is_read_at_once() -> None:
    late = DelayedScalar()
    assert late.swap(torch.tensor(2.5), 7) == (2.5, 7)
    assert late.take() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_number_on_a_gpu_is_read_a_step_later() -> None:
    late = DelayedScalar()
    assert late.swap(torch.tensor(2.5, device="cuda"), 7) is None
    assert late.swap(torch.tensor(3.5, device="cuda"), 8) == (2.5, 7)
    assert late.take() == (3.5, 8)
    assert late.take() is None


def test_a_profiled_run_writes_table_and_trace(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fit(tiny(shards, run, "profile=true", "trainer.steps=8"), resume=False)
    rows = {row["stage"]: row for row in csv.DictReader((run / "profile.csv").read_text().splitlines())}
    assert set(rows) == {"step", "other", *STAGES, *WORKER_STAGES}
    assert all(float(rows[stage]["ms_per_step"]) > 0 for stage in ("read", "decode", "views", "features", "forward", "loss"))
    assert all(float(rows[stage]["ms_per_step"]) > 0 for stage in ("backward", "optimizer", "logging", "checkpoint"))
    training = sum(float(row["ms_per_step"]) for row in rows.values() if row["process"] == "training")
    assert training == pytest.approx(float(rows["step"]["ms_per_step"]), abs=0.02)
    assert float(rows["other"]["ms_per_step"]) < 0.3 * float(rows["step"]["ms_per_step"])
    events = json.loads(gzip.decompress((run / "trace.json.gz").read_bytes()))["traceEvents"]
    assert any("convolution" in str(event.get("name")) for event in events)
    assert "where the time of a step goes (3 steps" in capsys.readouterr().out


def test_a_run_of_a_few_steps_has_its_table_too(shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "profile=true", "trainer.steps=1"), resume=False)
    assert (tmp_path / "run" / "profile.csv").read_text().startswith("stage,process,ms_per_step,share_of_step\n")


def test_profiling_changes_no_number(shards: Path, tmp_path: Path) -> None:
    for name in ("true", "false"):
        fit(tiny(shards, tmp_path / name, f"profile={name}"), resume=False)
    first, second = (read_metrics(tmp_path / name / "metrics.csv")[1] for name in ("true", "false"))
    assert [row["loss"] for row in first] == [row["loss"] for row in second]


def test_a_report_accounts_for_waiting_logging_and_checkpoints(shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "trainer.log_every=2", "trainer.checkpoint_every=1", "trainer.steps=8"), resume=False)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")[1]
    for row in rows[2:]:
        shares = [float(row[f"{name}_share"]) for name in ("data_wait", "logging", "checkpoint")]
        assert all(0 < share < 1 for share in shares)
        assert sum(shares) < 1
