"""The moving average of the weights: its numbers, a resumed run, and who uses it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import hear_ssl as hs
from hear_ssl.checkpoint import EMA, PREFIX, embedder_from_checkpoint, embedder_tensors, load_checkpoint, save_tensors
from hear_ssl.packaging.composition import compose
from hear_ssl.packaging.model_card import after_training
from hear_ssl.packaging.package import build_manifest, package
from hear_ssl.packaging.package_cli import main as package_command
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.training.average import average_weights, decay_at
from hear_ssl.training.initial_model import initial_model
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.online_probe import embedder_checkpoint
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

DECAY = 0.5
ADDRESS = "https://example.com/w.safetensors"
REQUEST = PackageRequest(Path(), "hear_mean", "0.1.0", ADDRESS, False, False, {}, allow_unpublished=True)
ENCODER = f"{PREFIX}encoder."


def states(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(run)["state_dict"])


def same(one: Path, other: Path) -> bool:
    first, second = states(one), states(other)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def averaged(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps of a recipe with a teacher of its own, each with a checkpoint, and return the run."""
    run = tmp_path_factory.mktemp("average") / "run"
    fit(tiny(shards, run, f"trainer.ema={DECAY}", "trainer.checkpoint_every=1", recipe="byol_a"), resume=False)
    return run


def test_the_decay_grows_to_the_one_asked_for() -> None:
    assert [decay_at(step, 0.999) for step in (1, 2, 8, 10**6)] == [2 / 11, 3 / 12, 0.5, 0.999]


def test_statistics_are_averaged_and_whole_numbers_copied() -> None:
    slow, fast = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    fast(torch.arange(12.0).view(4, 3))
    average_weights(slow, fast, 0.75)
    assert fast.running_mean is not None
    assert slow.running_mean is not None
    torch.testing.assert_close(slow.running_mean, 0.25 * fast.running_mean)
    assert slow.num_batches_tracked == fast.num_batches_tracked == 1


def test_the_average_is_that_of_the_weights_after_each_step(averaged: Path) -> None:
    """Follow the formula in float64 from the weights of the six checkpoints; no step before the first is kept, so from the second on."""
    files = [averaged / "checkpoints" / f"step-{step:08d}.ckpt" for step in range(1, 7)]
    steps = [load_checkpoint(file)["state_dict"] for file in files]
    names = [name[len(EMA) :] for name in steps[0] if name.startswith(EMA) and "num_batches" not in name]
    assert names
    for name in names:
        expected = steps[0][EMA + name].double()
        for step in range(2, 7):
            decay = min(DECAY, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * steps[step - 1][ENCODER + name].double()
            torch.testing.assert_close(steps[step - 1][EMA + name].double(), expected, rtol=1e-5, atol=1e-6)
    moved = "blocks.0.0.weight" if "blocks.0.0.weight" in names else names[0]
    assert not torch.equal(steps[5][EMA + moved], steps[5][ENCODER + moved])


def test_training_is_that_of_a_run_without_an_average(averaged: Path, shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "plain", recipe="byol_a"), resume=False)
    plain, with_average = states(tmp_path / "plain"), states(averaged)
    assert not any(name.startswith(EMA) for name in plain)
    assert {name for name in with_average if not name.startswith(EMA)} == set(plain)
    assert all(torch.equal(with_average[name], tensor) for name, tensor in plain.items())  # the teacher of BYOL too


def test_a_resumed_run_ends_with_the_same_bits_of_both(averaged: Path, shards: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(averaged, tmp_path / "run"))
    options = (f"trainer.ema={DECAY}", "trainer.checkpoint_every=1")
    fit(tiny(shards, run, *options, recipe="byol_a"), resume=True, resumed_file=run / "checkpoints" / "step-00000003.ckpt")
    assert (run / "checkpoints" / "replaced-1" / "step-00000006.ckpt").is_file()
    assert same(run, averaged)
    with pytest.raises(ValueError, match=r"was trained with trainer\.ema=0\.5, not 0\.0; only a run that averages can change it"):
        fit(tiny(shards, run, recipe="byol_a"), resume=True)


def test_probe_load_and_init_use_the_average(averaged: Path, shards: Path, tmp_path: Path) -> None:
    state = states(averaged)
    wanted = {name[len(EMA) :]: tensor for name, tensor in state.items() if name.startswith(EMA)}
    config = tiny(shards, tmp_path / "x", f"trainer.ema={DECAY}", f"init={averaged}", recipe="byol_a")
    module = PretrainingModule(config)
    module.load_state_dict(state)
    save_tensors(embedder_checkpoint(module, 6), tmp_path / "best.ckpt")  # what the probe scores, and best.ckpt
    loaded = hs.load(averaged).model.encoder.state_dict()
    probed = embedder_from_checkpoint(tmp_path / "best.ckpt")[0].encoder.state_dict()
    begun = PretrainingModule(config)
    begun.start_from(initial_model(config))
    assert begun.ema is not None
    for name, tensor in wanted.items():
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(probed[name], tensor)
        assert torch.equal(begun.embedder.encoder.state_dict()[name], tensor)
        assert torch.equal(begun.ema.state_dict()[name], tensor)
    kept = embedder_tensors(load_checkpoint(tmp_path / "best.ckpt"), "", "trained")
    assert all(torch.equal(kept[name.removeprefix(PREFIX)], state[name]) for name in state if name.startswith(ENCODER))


def test_an_export_has_the_average_or_on_request_the_trained_weights(averaged: Path) -> None:
    checkpoint, file = load_checkpoint(averaged), averaged / "checkpoints" / "last.ckpt"
    notes = []
    for weights, prefix in (("", EMA), ("ema", EMA), ("trained", ENCODER)):
        request = replace(REQUEST, checkpoint=file, weights=weights)
        model = compose(request, checkpoint)
        assert all(torch.equal(tensor, checkpoint["state_dict"][prefix + name]) for name, tensor in model.encoder.state_dict().items())
        manifest = build_manifest(request, checkpoint, model, b"")
        assert manifest["training"]["config"]["trainer"]["ema"] == DECAY
        notes.append("; ".join(after_training(manifest["training"])))
    assert notes[0] == notes[1] == "exponential moving average of the weights, decay 0.5"
    assert notes[2] == "weights of the last step, not their exponential moving average"


def test_weights_that_are_not_there_are_refused_in_one_line(averaged: Path, shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "plain", "trainer.steps=1"), resume=False)
    named = ["--name", "hear_mean", "--version", "0.1.0", "--weights-url", ADDRESS, "--out", str(tmp_path / "dist"), "--allow-unpublished"]
    with pytest.raises(ValueError, match=r"last\.ckpt has no averaged weights, because it was trained without trainer\.ema") as refused:
        package(replace(REQUEST, checkpoint=tmp_path / "plain" / "checkpoints" / "last.ckpt", weights="ema"), tmp_path / "dist")
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="weights is 'best'; give ema"):
        hs.package(averaged, name="hear_mean", version="0.1.0", weights_url=ADDRESS, out=tmp_path / "dist", weights="best")
    with pytest.raises(ValueError, match="weights=ema and untrained exclude each other"):
        package_command(["--checkpoint", str(averaged), *named, "--weights", "ema", "--untrained"])
    with pytest.raises(ValueError, match=r"was trained with trainer\.ema=0\.0, not 0\.9"):
        fit(tiny(shards, tmp_path / "plain", "trainer.steps=2", "trainer.ema=0.9"), resume=True)
    assert not (tmp_path / "dist").exists()
