"""Runs that start from a model: its encoder, the data of both trainings, and refusals of what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hear_ssl as hs
from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.synthesis.instruments import write_corpus
from hear_ssl.training.initial_model import initial_model, joined_card
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

ADDRESS = "https://example.com/w.safetensors"


def exported(run: Path, name: str, out: Path) -> Path:
    """Package a run and return the wheel."""
    return package(PackageRequest(run / "checkpoints" / "last.ckpt", name, "0.1.0", ADDRESS, False, False, {}, True), out)


@pytest.fixture(scope="module")
def first(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run to start from."""
    run = tmp_path_factory.mktemp("init") / "first"
    fit(tiny(shards, run, "trainer.steps=2"), resume=False)
    return run


@pytest.fixture(scope="module")
def weights(first: Path) -> Path:
    """Export it and return the weights file, with its manifest next to it."""
    package(
        PackageRequest(first / "checkpoints" / "last.ckpt", "hear_first", "0.1.0", ADDRESS, False, False, {}, True), first.parent / "dist"
    )
    return first.parent / "dist" / "hear_first-0.1.0.safetensors"


def encoder_of(path: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(path)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("embedder.encoder.")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "checkpoint", "weights"])
def test_the_encoder_and_its_teacher_begin_as_the_model_that_is_named(
    kind: str, first: Path, weights: Path, shards: Path, tmp_path: Path
) -> None:
    place = {"run": first, "checkpoint": first / "checkpoints" / "step-00000002.ckpt", "weights": weights}[kind]
    config = tiny(shards, tmp_path / "run", f"init={place}", recipe="byol_a")
    module = PretrainingModule(config)
    before = {key: value.clone() for key, value in module.state_dict().items() if not key.startswith(("embedder.encoder.", "teacher."))}
    module.start_from(initial_model(config))
    state = module.state_dict()
    for name, tensor in encoder_of(first).items():
        assert torch.equal(state[name], tensor), name
        assert torch.equal(state[name.replace("embedder.encoder.", "teacher.")], tensor), name
    assert before
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@pytest.mark.slow
def test_both_trainings_reach_checkpoint_and_manifest_and_survive_a_resume(first: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_corpus(other, clips=24, seed=1)
    run = tmp_path / "run"
    fit(tiny(other, run, "trainer.steps=2", f"init={first}"), resume=False)
    fit(tiny(other, run, "trainer.steps=3", f"init={first}"), resume=True)
    saved: dict[str, Any] = load_checkpoint(run)
    hours = load_checkpoint(first)["data_card"]["hours"] + read_index(other).hours
    assert saved["initial"]["name"] == str(first)
    assert saved["data_card"]["hours"] == pytest.approx(hours, abs=1e-5)
    assert len(saved["data_card"]["sources"]) == 2
    wheel = package(
        PackageRequest(run / "checkpoints" / "last.ckpt", "hear_next", "0.1.0", ADDRESS, False, False, {}, True), tmp_path / "dist"
    )
    card = (wheel.parent / "hear_next" / "MODEL_CARD.md").read_text()
    assert f"Training data: {hours:.2f} hours, split train" in card
    assert str(tmp_path) not in (wheel.parent / "hear_next" / "hear_next" / "manifest.json").read_text()


def test_a_source_of_both_trainings_counts_once() -> None:
    source = {"name": "a", "license": "MIT", "hours": 2.0, "clips": 3}
    card = {"hours": 2.0, "split": "train", "sources": [source]}
    assert joined_card(card, {**card, "hours": 5.0}) == card
    more = {"hours": 1.0, "split": "train", "sources": [{**source, "hours": 1.0}]}
    assert joined_card(card, more) == {"hours": 3.0, "split": "train", "sources": [source, {**source, "hours": 1.0}]}


def test_training_from_the_same_model_gives_the_same_run(first: Path, shards: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("a", "b"):
        fit(tiny(shards, tmp_path / name, "trainer.steps=2", f"init={first}"), resume=False)
        losses.append(encoder_of(tmp_path / name))
    assert all(torch.equal(tensor, losses[1][name]) for name, tensor in losses[0].items())
    assert not all(torch.equal(tensor, losses[0][name]) for name, tensor in encoder_of(first).items())


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["frontend.n_mels=32"], r"has frontend\.n_mels \d+ instead of 32"),
        (["encoder.audio_ntt.dim=96"], r"has encoder\.audio_ntt\.dim \d+ instead of 96"),
        (["init=nowhere/run"], "nowhere"),
        (["init=json"], "json"),
    ],
)
def test_what_cannot_be_started_from_is_one_line(overrides: list[str], line: str, first: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        fit(tiny(shards, tmp_path / "run", f"init={first}", *overrides), resume=False)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_resumes_keeps_what_it_started_from(first: Path, shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "trainer.steps=2"), resume=False)
    with pytest.raises(ValueError, match="was trained with init="):
        fit(tiny(shards, tmp_path / "run", "trainer.steps=3", f"init={first}"), resume=True)


def test_python_starts_from_a_run(first: Path, shards: Path, tmp_path: Path) -> None:
    config = tiny(shards, tmp_path / "x")
    overrides = {f"encoder.audio_ntt.{key}": value for key, value in vars(config.encoder.options).items()}
    overrides |= {f"frontend.{key}": value for key, value in vars(config.frontend).items()} | {"data.batch_size": 8, "data.workers": 0}
    run = hs.fit("base", shards=shards, steps=1, run=tmp_path / "run", init=hs.Run(first), overrides=overrides)
    assert load_checkpoint(run.checkpoint)["initial"]["name"] == str(first)
