"""What version 0.1.0 wrote evaluates and packages under the names of this version, and is not resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hear_ssl import __version__
from hear_ssl.checkpoint import embedder_from_checkpoint, exported_manifest, load_checkpoint
from hear_ssl.evaluation.model_under_test import load_model_under_test, untrained
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.options import to_mapping
from hear_ssl.model.weights import read_tensors
from hear_ssl.old_versions import EMBEDDER, VERSION_KEY, current_checkpoint, current_config, current_manifest
from hear_ssl.packaging.package import build_manifest, compose
from hear_ssl.packaging.package_cli import PackageRequest
from hear_ssl.packaging.wheel_rules import manifest_rows
from hear_ssl.training.config import Config
from tests.conftest import ROOT

STORED = ROOT / "tests" / "old_versions" / "config-0.1.0.yaml"  # as version 0.1.0 wrote it
REFERENCE = ROOT / "export" / "reference" / "hear_reference"  # a package of version 0.1.0
CARD = {"hours": 0.1, "split": "train", "sources": [{"name": "a", "license": "CC0-1.0", "hours": 0.1, "clips": 64}]}


def stored() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(STORED.read_text())
    return config


def test_a_stored_config_is_read() -> None:
    config = current_config(stored())
    assert config["data"]["positives"] == "pairs"
    assert (config["name"], config["encoder"]["audio_ntt"]["channels"]) == ("simclr", 8)
    assert {name: term["weight"] for name, term in config["objective"].items()} == {"nt_xent": 1.0}
    embedder = embedder_config({key: config[key] for key in EMBEDDER if key in config}, "config")
    assert to_mapping(embedder)["scene"]["reduction"] == []


def test_what_this_version_wrote_is_left_as_it_is() -> None:
    config = to_mapping(Config())
    assert current_config(config) == config
    checkpoint = {VERSION_KEY: __version__, "projection": 1}
    assert current_checkpoint(checkpoint) is checkpoint
    assert current_manifest({"format": "hear_ssl.manifest/3", "training": {"projection": 1}})["training"] == {"projection": 1}


@pytest.mark.parametrize("wrong", [None, 3, "x", [1], {"a": [2]}, {"data": 1, "embedder": {"scene": 3}}, {"data": {"positives": []}}])
def test_what_has_another_form_is_left_to_its_reader(wrong: Any) -> None:
    moved = {**wrong, **wrong.get("embedder", {})} if isinstance(wrong, dict) else wrong
    expected = {key: value for key, value in moved.items() if key != "embedder"} if isinstance(wrong, dict) else wrong
    assert current_config(wrong) == expected
    assert current_manifest(wrong) == wrong
    manifest = {"format": "hear_ssl.manifest/1", "embedder": wrong, "training": wrong}
    assert current_manifest(manifest) == {**manifest, "format": "hear_ssl.manifest/3"}
    checkpoint = {"config": {}, "state_dict": {1: 2}, "other_towers": wrong, "reduction": wrong}
    assert current_checkpoint(checkpoint) == checkpoint


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """Write a run folder of version 0.1.0 whose model has a linear map of its scene embeddings; return the folder."""
    config = stored()
    config["embedder"]["scene"]["projection"] = [12, 10, 8, 16]
    embedder = new_embedder()
    state = {f"embedder.{name.replace('_reduction.', '_projection.')}": value for name, value in embedder.state_dict().items()}
    assert "embedder.scene_projection.joint.weight" in state
    fitted = {"clips": 64, "flatten": 0.25, "data": CARD}
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = {"state_dict": state, "config": config, "data_card": CARD, "global_step": 4, "projection": fitted}
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    (run / "config.yaml").write_text(STORED.read_text())
    return run


def new_embedder() -> Embedder:
    """Return the model of the stored config with a reduction, with the weights of seed 0."""
    torch.manual_seed(0)
    config = embedder_config({key: value for key, value in current_config(stored()).items() if key in EMBEDDER}, "config")
    parts = Embedder(config).scene_parts()
    assert len(parts) == 3
    return Embedder(replace(config, scene=replace(config.scene, reduction=(12, 10, 8, 16)))).eval()


def test_an_old_run_evaluates(old_run: Path) -> None:
    audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    embedder, config = embedder_from_checkpoint(old_run)
    assert config["data"]["positives"] == "pairs"
    with torch.no_grad():
        assert torch.equal(embedder.scene(audio), new_embedder().to(memory_format=torch.channels_last).scene(audio))  # type: ignore[call-overload]
    assert load_model_under_test(str(old_run)).scene_embedding_size == 16
    assert load_checkpoint(old_run)["reduction"]["clips"] == 64


def test_an_old_run_packages(old_run: Path) -> None:
    request = PackageRequest(old_run / "checkpoints" / "last.ckpt", "hear_old", "0.1.0", "https://example.com/w", False, False, {})
    checkpoint = load_checkpoint(old_run)
    model = compose(request, checkpoint)
    manifest = exported_manifest(json.dumps(build_manifest(request, checkpoint, model, b"weights")), "manifest.json")
    assert manifest.embedder["scene"]["reduction"] == [12, 10, 8, 16]
    assert manifest.training["config"]["data"]["positives"] == "pairs"
    assert manifest.training["reduction"]["data"] == CARD


def test_an_old_run_is_not_resumed(old_run: Path) -> None:
    command = [sys.executable, str(ROOT / "train/fit.py"), "--resume", str(old_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"error: {old_run} was trained by hear_ssl 0.1.0, this is {__version__}: it can be evaluated and packaged, but only version 0.1.0"
        " resumes it; start a new run instead"
    ]


def test_a_package_of_the_old_version_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (REFERENCE / "manifest.json").read_bytes()
    manifest = exported_manifest(content, "manifest.json")
    assert manifest.embedder["scene"]["reduction"][-1] == manifest.sizes["scene_embedding_size"]
    names = {name.replace("_projection.", "_reduction.") for name in read_tensors(REFERENCE / "weights.safetensors")}
    assert names == set(Embedder(embedder_config(manifest.embedder, "embedder")).state_dict())
    rows = manifest_rows({"hear_reference/manifest.json": content}, REFERENCE / "weights.safetensors")
    assert [row.passed for row in rows if row.name in ("weights hash", "training data")] == [True, True]
    monkeypatch.syspath_prepend(str(REFERENCE.parent))
    assert untrained("hear_reference") is not None
