"""What version 0.1.0 wrote evaluates and packages under the names of this version, and is not resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from hear_ssl.checkpoint import embedder_from_checkpoint, exported_manifest, load_checkpoint
from hear_ssl.evaluation.model_under_test import load_model_under_test, untrained
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import EMBEDDER, VERSION_KEY, current_checkpoint, current_config, current_embedder, current_manifest
from hear_ssl.packaging.composition import compose
from hear_ssl.packaging.model_card import model_card
from hear_ssl.packaging.package import build_manifest
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.wheel_rules import manifest_rows
from hear_ssl.training.config import Config
from hear_ssl.version import __version__
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
    assert to_mapping(embedder)["scene"] == [{"pooled": {"layers": "all", "how": "mean+max"}}]
    assert to_mapping(embedder)["timestamp"] == [{"tokens": {"layers": "all"}}]


def test_every_composition_is_a_list_of_readouts() -> None:
    scene = {"layers": "last", "pooling": "mean,std", "raw_mel": True, "towers": 0, "reduction": [3, 2, 4], "contexts_ms": []}
    timestamp = {"layers": "mean", "raw_mel": True, "per_token": 2, "contexts_ms": [200.0], "around_ms": [100.0], "pooling": "mean"}
    current = current_embedder({"scene": scene, "timestamp": timestamp, "beside": []})
    assert current == {
        "scene": [{"pooled": {"layers": "last", "how": "mean,std"}}, {"bands": {}}, {"linear": {"dims": 4}}],
        "timestamp": [
            {"tokens": {"layers": "mean"}},
            {"contexts": {"layers": "mean", "ms": [200.0]}},
            {"frames": {}},
            {"around": {"ms": [100.0]}},
        ],
        "timestamps_per_token": 2,
    }
    with pytest.raises(ValueError, match=r"config.scene\[0\].pooled.pool is not known; allowed are layers, how"):
        embedder_config(current_embedder({"scene": {"pool": "mean"}}), "config")


def test_a_checkpoint_of_several_encoders_is_refused(tmp_path: Path) -> None:
    config = stored()
    for several in ({"encoder": {**config["embedder"]["encoder"], "towers": 2}}, {"beside": [config["embedder"]["encoder"]]}):
        old = {"state_dict": {}, "config": {**config, "embedder": {**config["embedder"], **several}}}
        torch.save(old, tmp_path / "old.ckpt")
        with pytest.raises(
            ValueError, match=r"^the checkpoint has several encoders, as an earlier version combined them: evaluate .*combine.py$"
        ):
            embedder_from_checkpoint(tmp_path / "old.ckpt")


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
    checkpoint = {"config": {}, "state_dict": {1: 2}, "other_towers": wrong, "tower_levels": wrong}
    assert {**checkpoint, **current_checkpoint(checkpoint)} == current_checkpoint(checkpoint)


RANKS, DIMS = (12, 10, 8), 16


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """Write a run folder of version 0.1.0 whose model has a linear map of its scene embeddings in two stages; return the folder."""
    config = stored()
    config["embedder"]["scene"]["projection"] = [*RANKS, DIMS]
    state = {f"embedder.{name}": value for name, value in plain_embedder().state_dict().items()}
    state |= {f"embedder.scene_projection.{name}": value for name, value in two_stages().items()}
    fitted = {"clips": 64, "flatten": 0.25, "data": CARD}
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = {"state_dict": state, "config": config, "data_card": CARD, "global_step": 4, "projection": fitted}
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    (run / "config.yaml").write_text(STORED.read_text())
    return run


def plain_embedder() -> Embedder:
    """Return the model of the stored config with the weights of seed 0."""
    torch.manual_seed(0)
    config = {key: value for key, value in current_config(stored()).items() if key in EMBEDDER}
    return Embedder(embedder_config(config, "config")).eval()


def two_stages() -> dict[str, Tensor]:
    """Return the weights of a map of each layer, and of one of all their results together."""
    generator = torch.Generator().manual_seed(1)
    widths = plain_embedder().encoder.layer_dims
    parts = {f"parts.{n}.weight": torch.randn(rank, widths[n], generator=generator) for n, rank in enumerate(RANKS)}
    joint = {"joint.weight": torch.randn(DIMS, sum(RANKS), generator=generator), "joint.bias": torch.randn(DIMS, generator=generator)}
    return {**parts, **joint}


def test_an_old_run_evaluates(old_run: Path) -> None:
    audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    embedder, config = embedder_from_checkpoint(old_run)
    assert config["data"]["positives"] == "pairs"
    plain, stages = plain_embedder(), two_stages()
    with torch.no_grad():
        layers = torch.split(plain.to(memory_format=torch.channels_last).scene(audio), list(plain.encoder.layer_dims), -1)  # type: ignore[call-overload]
        mapped = torch.cat([layer @ stages[f"parts.{place}.weight"].T for place, layer in enumerate(layers)], -1)
        expected = mapped @ stages["joint.weight"].T + stages["joint.bias"]
        torch.testing.assert_close(embedder.scene(audio), expected, rtol=1e-4, atol=1e-4)
    assert load_model_under_test(str(old_run)).scene_embedding_size == DIMS
    assert load_checkpoint(old_run)["fitted"] == {"clips": 64, "data": CARD}


def test_an_old_run_packages(old_run: Path) -> None:
    request = PackageRequest(old_run / "checkpoints" / "last.ckpt", "hear_old", "0.1.0", "https://example.com/w", False, False, {})
    checkpoint = load_checkpoint(old_run)
    model = compose(request, checkpoint)
    manifest = exported_manifest(json.dumps(build_manifest(request, checkpoint, model, b"weights")), "manifest.json")
    assert manifest.embedder["scene"][-1] == {"linear": {"dims": DIMS}}
    assert manifest.training["config"]["data"]["positives"] == "pairs"
    assert manifest.training["fitted"]["data"] == CARD
    assert "\n- embeddings by a linear map fitted on 64 clips\n" in model_card(build_manifest(request, checkpoint, model, b"weights"))


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
    assert manifest.embedder["scene"][-1] == {"linear": {"dims": manifest.sizes["scene_embedding_size"]}}
    assert len(manifest.embedder["beside"]) == 4
    assert manifest.training["notes"] == ["RMS scales of the last layers of the encoders: 1 : 2 : 2 : 2 : 3"]
    trained = [(one["objectives"], one["steps"], one["batch_size"]) for one in manifest.training["trainings"]]
    contrast = ["nt_xent"]
    assert trained == [([], 0, 0), (contrast, 700, 512), (contrast, 900, 128), (contrast, 2000, 512), (contrast, 4000, 512)]
    rows = manifest_rows({"hear_reference/manifest.json": content}, REFERENCE / "weights.safetensors")
    assert [row.passed for row in rows if row.name in ("weights hash", "training data")] == [True, True]
    monkeypatch.syspath_prepend(str(REFERENCE.parent))
    assert untrained("hear_reference") is None  # hear_ssl does not build several encoders
