"""Every choice for speed can be switched, is chosen only where it gains, and changes a loss by no more than its rounding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.config import Config
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.settings import SpeedConfig
from hear_ssl.training.speed import Choices, Machine, choose, cpu_bfloat16, keep_memory
from hear_ssl.training.trainer import apply, fit
from tests.conftest import tiny

PLAIN_CPU, FAST_CPU, GPU = Machine("cpu", 4, ""), Machine("cpu", 4, "amx_bf16"), Machine("gpu", 16, "NVIDIA H100")
VIT = ("encoder=vit", "encoder.vit.dim=32", "encoder.vit.heads=2", "encoder.vit.depth=2")
ENCODERS = {
    "audio_ntt": (),
    "convnext": ("encoder={convnext: {channels: 4, dim: 32, depth: 2}}",),
    "vit": (*VIT, "views=[{augment: [{keep: {share: 0.5}}]}, {augment: [{keep: {share: 0.5}}]}]"),
}
SWITCHES = ("allocator", "channels_last", "explicit_attention", "compile", "fused_optimizer")


def chosen(machine: Machine, performance: str, **speed: bool) -> Choices:
    return choose(replace(Config(), performance=performance, speed=SpeedConfig(**speed)), machine)


def losses(shards: Path, run: Path, *overrides: str) -> list[float]:
    fit(tiny(shards, run, *overrides), resume=False)
    return [float(row["loss"]) for row in read_metrics(run / "metrics.csv")[1]]


@pytest.mark.parametrize("machine", [PLAIN_CPU, FAST_CPU, GPU])
def test_plain_is_what_everyone_does_and_exact_keeps_float32(machine: Machine) -> None:
    plain, exact = chosen(machine, "plain"), chosen(machine, "exact")
    assert not any(getattr(plain, name) for name in SWITCHES)
    assert plain.precision == exact.precision == "32"
    assert (exact.allocator, exact.channels_last, exact.compile, exact.fused_optimizer) == (True, True, False, False)


def test_auto_takes_what_the_machine_gains_from() -> None:
    assert [chosen(machine, "auto").precision for machine in (PLAIN_CPU, FAST_CPU, GPU)] == ["32", "bf16", "bf16"]
    assert [chosen(machine, "auto").compile for machine in (PLAIN_CPU, FAST_CPU, GPU)] == [False, False, True]
    assert chosen(GPU, "auto").fused_optimizer
    assert not chosen(GPU, "auto").explicit_attention


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("performance", ["auto", "exact", "plain"])
def test_every_choice_has_its_own_switch(performance: str, name: str) -> None:
    for machine in (PLAIN_CPU, GPU):
        before = chosen(machine, performance)
        for value in (True, False):
            after = chosen(machine, performance, **{name: value})
            assert getattr(after, name) is value
            assert {other: getattr(after, other) for other in SWITCHES if other != name} == {
                other: getattr(before, other) for other in SWITCHES if other != name
            }


def test_precision_and_threads_are_as_the_config_says() -> None:
    config = Config()
    fixed = replace(config, performance="auto", trainer=replace(config.trainer, precision="32", threads=3))
    assert (choose(fixed, GPU).precision, choose(fixed, GPU).threads) == ("32", 3)
    workers = replace(config, data=replace(config.data, workers=3))
    assert [choose(workers, Machine("cpu", cores, "")).threads for cores in (1, 3, 16)] == [1, 1, 13]


def test_bfloat16_is_taken_from_the_flags_of_the_cpu(tmp_path: Path) -> None:
    for flags, expected in (("avx512f avx512_bf16", "avx512_bf16"), ("avx512_bf16 amx_bf16", "amx_bf16"), ("avx2", "")):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
        assert cpu_bfloat16(tmp_path / "cpuinfo") == expected
    assert cpu_bfloat16(tmp_path / "none") == ""


def test_the_choices_are_printed_and_recorded(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses(shards, tmp_path / "run", "trainer.steps=1", "performance=auto", "speed.channels_last=false", "trainer.precision=bf16")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("performance auto: "))
    assert "channels last off (speed.channels_last)" in line
    assert "precision bf16 (trainer.precision)" in line
    record: dict[str, Any] = json.loads((tmp_path / "run" / "environment.json").read_text())["performance"]
    assert (record["channels_last"], record["precision"], record["threads"]) == (False, "bf16", 1)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [(), VIT], ids=["audio_ntt", "vit"])
def test_no_choice_changes_a_loss_beyond_its_rounding(shards: Path, tmp_path: Path, encoder: tuple[str, ...]) -> None:
    """Embeddings differ by 3e-6 between layouts of float32 and by 1e-2 in bfloat16; a temperature of 0.1 and BatchNorm raise both."""
    plain = losses(shards, tmp_path / "plain", *encoder, "performance=plain")
    assert losses(shards, tmp_path / "exact", *encoder, "performance=exact") == pytest.approx(plain, rel=5e-4)
    fused = losses(shards, tmp_path / "fused", *encoder, "performance=plain", "speed.fused_optimizer=true")
    assert fused == pytest.approx(plain, rel=2e-5)
    half = losses(shards, tmp_path / "half", *encoder, "performance=plain", "trainer.precision=bf16")
    assert half[:2] == pytest.approx(plain[:2], rel=2e-2)  # from the same weights; then Adam's first steps, all signs, part them
    assert half != plain


def losses_and_gradients(module: PretrainingModule) -> list[torch.Tensor]:
    """Return a loss of three batches of features and the encoder's gradients after them."""
    encoder = module.embedder.encoder
    encoder.zero_grad()
    torch.manual_seed(0)
    kept = (torch.tensor([[0, 2, 3, 7]] * 4),) if encoder.can_drop else ()
    losses = [encoder(torch.randn(4, 64, 32), *kept)[-1].square().mean() for _ in range(3)]
    torch.stack(losses).sum().backward()
    return [torch.stack(losses).detach(), *(parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_an_encoder_is_captured_whole_and_once(shards: Path, tmp_path: Path, encoder: str) -> None:
    """So that a compiler sees all of it, and no step but the first waits for one."""
    torch.compiler.reset()
    dropout = () if encoder == "vit" else (f"encoder.{encoder}.dropout=0",)
    module = PretrainingModule(tiny(shards, tmp_path, *ENCODERS[encoder], *dropout)).train()
    plain = losses_and_gradients(module)
    counters.clear()
    module.compile_parts(backend="eager")
    captured = losses_and_gradients(module)
    assert all(torch.equal(one, other) for one, other in zip(captured, plain, strict=True))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_the_compiled_encoder_has_the_same_losses_and_gradients(shards: Path, tmp_path: Path) -> None:
    """They differ by 4e-7 and 1e-5: the order of a sum."""
    torch.compiler.reset()
    config = tiny(shards, tmp_path, "encoder.audio_ntt.dropout=0", "speed.compile=true")
    module = PretrainingModule(config).train()
    plain = losses_and_gradients(module)
    apply(choose(config, PLAIN_CPU), module)
    compiled = losses_and_gradients(module)
    assert counters["inductor"]
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-5, atol=0.0)
    for one, other in zip(compiled[1:], plain[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-3 * float(other.abs().max()))


def test_keeping_memory_applies_where_there_is_glibc() -> None:
    if torch.__config__.show() and not Path("/lib64/ld-linux-x86-64.so.2").exists():
        pytest.skip("no glibc here")
    assert keep_memory()
