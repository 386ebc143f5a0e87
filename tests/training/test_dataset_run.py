"""Runs on a dataset in Python: they resume bit for bit when it is given again, and say so when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hear_ssl
from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.trainer import fit
from tests.conftest import MEMORY, NT_XENT, ROOT, TINY, tiny
from tests.data.stream.some_datasets import Tones
from tests.training.fit_dataset import config

LICENSED = "data.license=[CC0-1.0]"


def test_a_run_resumes_with_its_dataset_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Tones(20, noise=0.01)
    assert fit(config(tmp_path / "whole", LICENSED), resume=False, dataset=dataset) == 0
    assert "a pass over Tones is 20 clips, 2 batches" in capsys.readouterr().out
    assert fit(config(tmp_path / "run", LICENSED, "trainer.steps=3"), resume=False, dataset=dataset) == 0
    assert fit(config(tmp_path / "run", LICENSED, "trainer.steps=6"), resume=True, dataset=dataset) == 0
    whole, resumed = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "run")
    assert all(torch.equal(tensor, resumed["state_dict"][name]) for name, tensor in whole["state_dict"].items())
    card: Any = whole["data_card"]
    hours = round(sum(0.25 + 0.05 * number for number in range(20)) / 3600, 6)
    assert card == {
        "hours": hours,
        "split": "unknown",
        "sources": [{"name": "Tones", "license": "CC0-1.0", "hours": hours, "clips": 20}],
    }
    assert resumed["data_card"] == card


def test_the_verb_trains_on_a_dataset_and_resumes(tmp_path: Path) -> None:
    options: dict[str, Any] = {key: yaml.safe_load(value) for key, _, value in (line.partition("=") for line in (*TINY, *NT_XENT, *MEMORY))}
    del options["trainer.steps"]
    whole = hear_ssl.fit("simclr", data=Tones(20), steps=4, run=tmp_path / "whole", overrides=options)
    begun = hear_ssl.fit("simclr", data=Tones(20), steps=2, run=tmp_path / "run", overrides=options)
    resumed = hear_ssl.fit(resume=begun, data=Tones(20), steps=4)
    before, after = (load_checkpoint(run.folder)["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with pytest.raises(ValueError, match=r"a dataset is given; leave one of them out"):
        hear_ssl.fit("simclr", data=Tones(20), shards=tmp_path, steps=4, run=tmp_path / "both", overrides=options)


def test_what_does_not_fit_the_run_is_one_line(tmp_path: Path, shards: Path) -> None:
    run = tmp_path / "run"
    fit(config(run, "trainer.steps=3"), resume=False, dataset=Tones(20))
    later = config(run, "trainer.steps=4")
    with pytest.raises(ValueError, match=r"trained on a dataset in Python; resume it with hear_ssl\.fit\(resume=RUN, data=dataset\)"):
        fit(later, resume=True)
    with pytest.raises(ValueError, match="the number of clips was 20 and is 21 now: the run cannot resume"):
        fit(later, resume=True, dataset=Tones(21))
    with pytest.raises(ValueError, match=r"data\.shards is .*, and a dataset is given; leave one of them out"):
        fit(tiny(shards, run, "trainer.steps=4"), resume=True, dataset=Tones(20))
    fit(tiny(shards, tmp_path / "packed", "trainer.steps=3"), resume=False)
    with pytest.raises(ValueError, match=r"trained on data\.shards, not on a dataset; resume it without data="):
        fit(tiny(shards, tmp_path / "packed", "trainer.steps=4"), resume=True, dataset=Tones(20))


def test_a_batch_larger_than_the_dataset_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(config(tmp_path / "run", "trainer.steps=1"), resume=False, dataset=Tones(5))
    lines = capsys.readouterr()
    assert "data.batch_size is 8, but the data holds 5 clips" in lines.out + lines.err
    assert "training source Tones has" in lines.out + lines.err


@pytest.mark.slow
def test_two_processes_share_a_dataset(tmp_path: Path) -> None:
    def run(name: str, steps: int, how: str, processes: int) -> None:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "tests.training.fit_dataset"]
        command = [sys.executable, *launch, str(tmp_path / name), str(steps), how]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    run("one", 6, "new", 1)
    run("two", 6, "new", 2)
    run("changed", 3, "new", 2)
    run("changed", 6, "resume", 1)
    losses = [[float(row["loss"]) for row in read_metrics(tmp_path / name / "metrics.csv")[1]] for name in ("one", "two", "changed")]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert losses[2] == pytest.approx(losses[0], rel=5e-3)
    cards = [load_checkpoint(tmp_path / name)["data_card"] for name in ("one", "two", "changed")]
    assert cards[0] == cards[1] == cards[2]
    assert cards[0]["sources"][0]["clips"] == 20
