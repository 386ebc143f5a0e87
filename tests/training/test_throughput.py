"""MFU and hours of audio: operations against those of a real step, columns of metrics.csv, and what cannot be counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hear_ssl.data.stream.batch import Batch
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import Config
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.throughput import Throughput, audio_seconds, measured_peak, peak_of, step_operations
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

KEEP = "views=[{augment: [{keep: {share: 0.5}}]}, {augment: [{keep: {share: 0.5}}]}]"
VIT = ("encoder=vit", "encoder.vit.dim=24", "encoder.vit.heads=2", "encoder.vit.depth=2")
BATCH = 8


def real_operations(config: Config) -> float:
    """Return the operations of a real training step, its augmentations left out."""
    torch.manual_seed(0)
    module = PretrainingModule(config)
    lengths = [(crops.count, round(crops.seconds * config.frontend.sample_rate)) for crops in config.data.crops]
    batch = Batch([torch.randn(BATCH, count, length) for count, length in lengths], torch.arange(BATCH), [""] * BATCH)
    with torch.no_grad():
        features, shift = module.features(batch)
        steps = [view.shape[-1] // module.embedder.encoder.time_stride for view in features[: len(module.views.crops)]]
        kept = module.views.kept(batch.seeds, steps)
    with FlopCounterMode(display=False) as counter:
        module.objective(module.encode(features, kept, shift)).backward()
    return float(counter.get_total_flops())


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("simclr", ()),
        ("byol_a", ()),
        ("moco_v3", ()),
        ("clip_frame_pitch", ()),
        ("simclr", (*VIT, KEEP)),
        ("simclr", ("data.crops=[{seconds: 0.64, count: 2}]", "views=[{crop: 0}, {crop: 1}]")),
    ],
)
def test_the_operations_are_those_of_a_real_step(tmp_path: Path, recipe: str, options: tuple[str, ...]) -> None:
    config = tiny(tmp_path, tmp_path, *options, recipe=recipe)
    module = PretrainingModule(config)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    drawn = torch.get_rng_state()
    operations = step_operations(module, BATCH)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert operations == real_operations(config) > 0
    assert 2 * operations <= step_operations(module, 2 * BATCH) < 3 * operations  # similarities grow with the square


def test_what_is_computed_twice_to_save_memory_counts_once(tmp_path: Path) -> None:
    plain, chunked = (PretrainingModule(tiny(tmp_path, tmp_path, f"trainer.encode_rows={rows}")) for rows in (0, 4))
    assert step_operations(chunked, BATCH) == step_operations(plain, BATCH)
    assert real_operations(chunked.config) > real_operations(plain.config)


def test_a_layer_counts_two_operations_a_weight_and_row_three_times() -> None:
    layer = torch.nn.Linear(6, 4)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(5, 6, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 5 * 6 * 4  # forward, gradient of the rows, gradient of the weights
    rates = Throughput(1e9, 4e9, 72.0).columns(2.0)
    assert rates == {"audio_hours_per_second": 0.04, "mfu": 0.5}
    assert Throughput(0.0, 4e9, 72.0).columns(2.0) == {"audio_hours_per_second": 0.04}


def test_the_peak_is_a_measured_product_of_the_precision() -> None:
    cpu, size = torch.device("cpu"), 1024
    matrix = torch.rand(size, size)
    with FlopCounterMode(display=False) as counter:
        matrix @ matrix
    assert counter.get_total_flops() == 2 * size**3
    assert 1e9 < measured_peak(cpu, torch.float32) < 1e14
    assert 0.2 < peak_of(cpu, "32") / measured_peak(cpu, torch.float32) < 5.0


@pytest.mark.slow
def test_metrics_and_the_progress_line_have_both(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(shards, tmp_path / "run", "data.crops=[{seconds: 0.64, count: 2}]", "views=[{crop: 0}, {crop: 1}]")
    assert audio_seconds(config) == pytest.approx(BATCH * 2 * 0.64)
    fit(config, resume=False)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")[1]
    shares = [float(row["mfu"]) / float(row["clips_per_second"]) for row in rows]
    assert shares == pytest.approx([shares[0]] * len(rows), rel=1e-5)
    assert all(0.0 < float(row["mfu"]) < 1.0 for row in rows)
    for row in rows:
        assert float(row["audio_hours_per_second"]) == pytest.approx(float(row["clips_per_second"]) * 1.28 / 3600.0, rel=1e-5)
    lines = re.findall(r"clips/s  ([\d.e-]+) h/s of audio  MFU ([\d.]+)%  data wait", capsys.readouterr().out)
    assert [float(mfu) for _, mfu in lines] == pytest.approx([100 * float(row["mfu"]) for row in rows], abs=0.051)


def test_a_class_that_needs_values_has_no_mfu(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\n"
        "from hear_ssl.objectives import Objective\n"
        "class Own(Objective):\n"
        "    @dataclass(frozen=True)\n"
        "    class Options:\n"
        "        pass\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "    def forward(self, encoded):\n"
        "        distance = (encoded.clip[0] - encoded.clip[1]).square().mean()\n"
        "        return distance if float(distance) > 0 else 2 * distance\n"
    )
    fit(tiny(shards, tmp_path / "run", "objective.nt_xent=null", f"objective={tmp_path}/own.py:Own", "trainer.steps=2"), resume=False)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")[1]
    assert len(rows) == 2
    assert all("mfu" not in row and float(row["audio_hours_per_second"]) > 0 for row in rows)
    assert "no MFU: the operations of a step cannot be counted (" in capsys.readouterr().out
