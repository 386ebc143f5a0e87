"""A step on a GPU: the host only queues work, compiled bfloat16 trains alike, and a stopped run resumes with the same bits.

Tests that need a GPU skip without one. The others follow every tensor of a step on a CUDA device that is only pretended: torch's
fake tensors have shapes and a device but no data, so that reading one fails, and a copy between host and device shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.data.stream.batch import Batch
from hear_ssl.errors import run_main
from hear_ssl.objectives.ema import update_ema
from hear_ssl.training.callbacks import StopCleanly, read_metrics
from hear_ssl.training.config import Config
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.trainer import apply, build_trainer, choose, fit, machine
from tests.benchmarks import gpu, gpu_embedding, gpu_stages
from tests.benchmarks.gpu_meter import union
from tests.conftest import HEADS, tiny

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
VIT = ("encoder=vit", "encoder.vit.dim=32", "encoder.vit.heads=2", "encoder.vit.depth=2")
ENCODERS = {"audio_ntt": (), "convnext": ("encoder={convnext: {channels: 4, dim: 32, depth: 2}}",), "vit": VIT}
AUGMENT = "gain, polarity, noise, mixup, {resize_crop: {time: TIME}}, fader, time_masks, frequency_masks, drop_time, drop_frequency"
KEEP_HALF = "views=[{augment: [{keep: {share: 0.5}}]}, {augment: [{keep: {share: 0.5}}]}]"
GPU = ("trainer.accelerator=gpu", "trainer.log_every=100")


class NoCopies(TorchDispatchMode):
    """Fails where an operation takes or gives tensors of two devices: a copy that the host waits for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)}
        assert len(devices) <= 1, f"{func} is of the devices {sorted(devices)}"
        return output


@contextmanager
def pretended_gpu(module: nn.Module) -> Iterator[None]:
    """Put a module on a CUDA device that has no data, inside the block."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode():
            module._apply(lambda tensor: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda"))
            with NoCopies():
                yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def step(config: Config, module: PretrainingModule) -> Tensor:
    """Run a step but for the backward pass, which needs a real driver, on the pretended device; return the loss."""
    rows = config.data.batch_size
    waveforms = [torch.empty(rows, crops.count, round(crops.seconds * 16000), device="cuda") for crops in config.data.crops]
    numbers = torch.arange(rows, device="cuda")
    with torch.no_grad():
        features, shift = module.features(Batch(waveforms, numbers, []))
        kept = module.views.kept(numbers, [view.shape[-1] // module.embedder.encoder.time_stride for view in features[:2]])
    encoded = module.encode(features, kept, shift)
    loss: Tensor = module.objective(encoded)
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()))
    if module.teacher is not None:
        update_ema(module.teacher, module.embedder.encoder, 0.9)
        module.objective.update_teacher(0.9)
    return loss


@pytest.mark.parametrize("encoder", [pytest.param(name, marks=pytest.mark.slow if name == "convnext" else ()) for name in sorted(ENCODERS)])
@pytest.mark.parametrize("recipe", sorted(HEADS))
def test_a_step_neither_reads_from_the_device_nor_copies_to_it(shards: Path, tmp_path: Path, recipe: str, encoder: str) -> None:
    augment = AUGMENT.replace("TIME", "0" if "frame" in recipe else "0.2")  # frames are compared where they are
    views = f"views=[{{crop: 0, augment: [{augment}]}}, {{crop: 0, augment: [{augment}]}}]"
    config = tiny(shards, tmp_path, "data.batch_size=4", views, *ENCODERS[encoder], recipe=recipe)
    module = PretrainingModule(config).train()
    with pretended_gpu(module):
        for _ in range(2):  # the second one mixes in what the first remembered
            assert step(config, module).device.type == "cuda"


@pytest.mark.parametrize("option", ["objective.nt_xent.chunk=2", "trainer.encode_rows=3", KEEP_HALF, "frontend.layout=log"])
def test_neither_do_large_batches_few_tokens_and_pitch_bands(shards: Path, tmp_path: Path, option: str) -> None:
    config = tiny(shards, tmp_path, "data.batch_size=4", *VIT, option)
    module = PretrainingModule(config).train()
    with pretended_gpu(module):
        assert step(config, module).device.type == "cuda"


def test_what_waits_for_the_device_is_caught() -> None:
    with pretended_gpu(nn.Linear(1, 1)):
        value = torch.empty(3, device="cuda")
        with pytest.raises(DataDependentOutputException):
            float(value.sum())
        with pytest.raises(DynamicOutputShapeException):
            value[value > 0]
        with pytest.raises(AssertionError, match="devices"):
            torch.empty(3).to("cuda")
        with pytest.raises(AssertionError, match="devices"):
            value.cpu()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: gpu.main([]))
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("error: gpu.py measures a CUDA device and finds none")


@pytest.mark.slow
def test_the_benchmark_runs_to_its_end_in_miniature(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--peak-tflops", "1"])
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    head, rows = table[0], [dict(zip(table[0], row, strict=True)) for row in table[2:]]
    assert head[1:-1] == ["batch", "clips/s", "ms", "MFU", "device waits", "host waits", "memory, GB"]
    assert [row["batch"] for row in rows] == ["2", "4", "16", "16", "2", "2", "4", "4"]  # steps, loss, data
    assert all(float(row["ms"]) > 0 for row in rows)
    assert all(row["MFU"] and row["host waits"] == "0" and row["device waits"] for row in rows[:2])
    assert all("data_wait" in row[""] and "of the rate from memory" in row[""] for row in rows[4:])


def test_every_operation_of_a_step_belongs_to_a_part_of_the_model(shards: Path, tmp_path: Path) -> None:
    options = (*ENCODERS["vit"], "trainer.accelerator=cpu")
    steps = gpu_stages.Steps(tiny(shards, tmp_path, *options), gpu_stages.Device("cpu"))
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as tracer:
        steps.run(1)
    spent = gpu_stages.times_of(list(tracer.events()), gpu_stages.Device("cpu"))
    learned = {"attention", "MLP", "LayerNorm", "patch embedding", "encoder", "objective"}
    assert set(spent) == learned | {"views", "features", "optimizer", "other"}
    assert {name for name, (_, backward) in spent.items() if backward} - {"other"} == learned  # the rest has no gradient
    assert all(forward for forward, _ in spent.values())
    products = [event for event in tracer.events() if event.name in ("aten::mm", "aten::addmm", "aten::bmm")]
    parts = {gpu_stages.part_of(event, {})[0] for event in products if not gpu_stages.part_of(event, {})[1]}
    assert parts == {"attention", "MLP", "patch embedding", "objective", "features"}


def test_the_benchmark_of_embedding_runs_in_miniature(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_embedding.main(["--device", "cpu"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if line.startswith("| ViT-S")]
    assert [row[1] for row in rows] == ["20 x 1 s", "5 x 4 s", "2 x 10 s", "1 min"]
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:3] for cell in row[2:4])
    assert "times real time" in rows[3][4]


def test_overlapping_kernels_count_once() -> None:
    assert union([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == 4.0


class ForbidWaiting(pl.Callback):
    """Makes torch raise where the host waits for the device, from the end of the third step to the end of the ninth."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if 3 <= trainer.global_step < 9 else "default")


def train(config: Config, *callbacks: pl.Callback) -> None:
    """Train as fit.py does, with callbacks of a test behind its own."""
    module, data = PretrainingModule(config), ShardDataModule(config.data, 16000, config.seed)
    choices = choose(config, machine(config.trainer))
    apply(choices, module)
    trainer = build_trainer(config, Path(config.run), StopCleanly(), data, choices.precision)
    trainer.callbacks += callbacks  # type: ignore[attr-defined]
    trainer.fit(module, datamodule=data)


def losses(config: Config) -> list[float]:
    """Train and return the losses."""
    fit(config, resume=False)
    return [float(row["loss"]) for row in read_metrics(Path(config.run) / "metrics.csv")[1]]


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("recipe", ["simclr", "moco_v3", "clip_frame_pitch"])
def test_the_host_never_waits_in_a_step(shards: Path, tmp_path: Path, recipe: str, encoder: str) -> None:
    options = ("trainer.steps=10", "trainer.checkpoint_every=100", "performance=auto", "data.workers=1")
    try:
        train(tiny(shards, tmp_path / "run", *GPU, *ENCODERS[encoder], *options, recipe=recipe), ForbidWaiting())
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_compiled_bfloat16_trains_like_plain_float32(shards: Path, tmp_path: Path, encoder: str) -> None:
    """From the same weights the first two losses differ by bfloat16's rounding; then Adam's first steps, all signs, part them."""
    dropout = () if encoder == "vit" else (f"encoder.{encoder}.dropout=0",)
    options = (*GPU, *ENCODERS[encoder], *dropout, "trainer.steps=3", "trainer.log_every=1")
    plain = losses(tiny(shards, tmp_path / "plain", *options, "performance=plain"))
    fast = losses(tiny(shards, tmp_path / "fast", *options, "performance=auto"))
    assert fast[:2] == pytest.approx(plain[:2], rel=2e-2)
    compiled = losses(tiny(shards, tmp_path / "compiled", *options, "performance=plain", "speed.compile=true"))
    assert compiled == pytest.approx(plain, rel=1e-3)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_a_run_on_a_gpu_goes_on_where_it_stopped(shards: Path, tmp_path: Path, encoder: str) -> None:
    """Up to the order in which a GPU's atomic additions come."""
    options = (*GPU, *ENCODERS[encoder], "performance=auto", "trainer.log_every=1", "trainer.steps=7", "trainer.checkpoint_every=4")
    whole = losses(tiny(shards, tmp_path / "whole", *options))
    resumed = tiny(shards, tmp_path / "resumed", *options)
    losses(resumed)
    checkpoints = tmp_path / "resumed" / "checkpoints"
    for name in ("step-00000007.ckpt", "last.ckpt"):
        (checkpoints / name).unlink()
    os.link(checkpoints / "step-00000004.ckpt", checkpoints / "last.ckpt")
    assert fit(resumed, resume=True) == 0
    assert load_checkpoint(tmp_path / "resumed")["global_step"] == 7
    rows = read_metrics(tmp_path / "resumed" / "metrics.csv")[1]
    assert [float(row["loss"]) for row in rows] == pytest.approx(whole, rel=1e-3)
