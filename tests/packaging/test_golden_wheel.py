"""Fixed checkpoints give the stored weights, manifest and files of a package; their tensors are small rationals, exact on any machine."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hear_ssl.checkpoint import PREFIX, load_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, encoder, readout
from hear_ssl.model.options import FrontendConfig, to_mapping
from hear_ssl.model.weights import serialise_tensors
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.composition import compose
from hear_ssl.packaging.package import build_manifest, halved, package_files, source_tree_files
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.writer import write_export
from hear_ssl.training.config import Config
from hear_ssl.version import __version__
from tests.conftest import ROOT

GOLDEN = Path(__file__).with_name("golden_wheel.json")
ENVIRONMENT = ("torch", "cuda", "cudnn")  # what the manifest records of the machine
PLAIN = EmbedderConfig(frontend=FrontendConfig(n_mels=32), encoder=encoder("audio_ntt", channels=4, dim=16))
MAPPED = EmbedderConfig(
    frontend=FrontendConfig(n_mels=32),
    encoder=encoder("audio_ntt", channels=4, dim=24, context=2, band_pool=2),
    scene=(readout("pooled", how="mean,max"), readout("bands"), readout("linear", dims=20)),
    timestamp=(readout("tokens", layers="last"), readout("frames"), readout("around"), readout("linear", dims=12)),
    timestamps_per_token=2,
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # a checkpoint, and what a request asks for
    "plain": ("plain", {}),
    "plain, other readouts": (
        "plain",
        {
            "composition": {
                "scene.0.how": "mean,std",
                "scene.0.layers": "last",
                "timestamp": ["tokens", {"contexts": {"layers": "all", "ms": [200]}}],
            },
            "bundle_weights": False,
        },
    ),
    "plain, float16": ("plain", {"half": True}),
    "mapped": ("mapped", {}),
    "mapped, without maps": (
        "mapped",
        {"composition": {"scene": ["pooled"], "timestamp": [{"tokens": {"layers": "last"}}, "frames"], "timestamps_per_token": 1}},
    ),
    "mapped, float16": ("mapped", {"half": True}),
}


def rational(shape: torch.Size, number: int) -> Tensor:
    """Return multiples of 1/4096 between -1 and 1, others for each `number`; float16 has to round most of them."""
    place = torch.arange(shape.numel())
    return (((place * 7919 + number * 104729) % 8191 - 4095).float() / 4096.0).reshape(shape)


def state_of(config: EmbedderConfig) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: rationals, variances of at least 1, counts of batches."""
    state = {}
    for number, (name, tensor) in enumerate(Embedder(config).state_dict().items()):
        exact = rational(tensor.shape, number) if tensor.is_floating_point() else torch.full_like(tensor, 300 + number)
        state[f"{PREFIX}{name}"] = exact.abs() + 1.0 if name.endswith("running_var") else exact
    return state


def checkpoint_of(name: str) -> dict[str, Any]:
    """Return a checkpoint as training writes it, or one as combining encoders and fitting linear maps do."""
    embedder = PLAIN if name == "plain" else MAPPED
    data = {"hours": 0.25, "split": "train", "sources": [{"name": "noise", "license": "CC0-1.0", "hours": 0.25, "clips": 24}]}
    data_config = DataConfig(shards=["/machine/shards"], batch_size=8)
    run = Config(encoder=embedder.encoder, frontend=embedder.frontend, run="/machine/run", data=data_config)
    config = {**to_mapping(run), **to_mapping(embedder)}
    plain = {"hear_ssl_version": __version__, "state_dict": state_of(embedder), "config": config, "data_card": data, "global_step": 3}
    return plain if name == "plain" else {**plain, "notes": ["a note"], "fitted": {"clips": 16, "data": data}}


def write_run(folder: Path, name: str) -> Path:
    """Write a run folder with the checkpoint, its metrics and its environment; return the checkpoint's path."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint_of(name), folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.csv").write_text("step,loss,effective_rank\n2,1.5,4.25\n3,1.25,4.5\n4,1,4.75\n")
    (folder / "environment.json").write_text('{"git_revision": "0123456"}')
    return folder / "checkpoints" / "last.ckpt"


def packaged(folder: Path, case: str) -> dict[str, Any]:
    """Return the SHA-256 of the weights, the manifest without its environment and the names of the wheel's files."""
    name, options = CASES[case]
    given = {"bundle_weights": True, "untrained": False, "composition": {}, "allow_unpublished": True, **options}
    request = PackageRequest(write_run(folder / "run", name), "hear_golden", "0.1.0", "https://example.com/w.safetensors", **given)
    checkpoint = load_checkpoint(request.checkpoint)
    model = compose(request, checkpoint)
    weights = serialise_tensors(halved(model) if request.half else model.state_dict(), {"format": "pt"})
    manifest = build_manifest(request, checkpoint, model, weights)
    files = {**package_files(request, manifest, b"", weights), "hear_golden/COMPLIANCE.md": b""}
    wheel = write_export(folder / "hear_golden", request.version, source_tree_files(request, files, manifest), manifest["requires_python"])
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
    assert files["hear_golden/manifest.json"] == texts.manifest_text(manifest)
    for key in ENVIRONMENT:
        del manifest["training"][key]
    return {"weights": hashlib.sha256(weights).hexdigest(), "manifest": manifest, "files": names}


@pytest.mark.parametrize("case", CASES)
def test_weights_manifest_and_files_are_the_golden_ones(tmp_path: Path, case: str) -> None:
    """The manifest is stored as it is and not as a hash, so that a failure names the key."""
    found, golden = packaged(tmp_path, case), json.loads(GOLDEN.read_text())[case]
    assert found["files"] == golden["files"]
    assert found["manifest"] == golden["manifest"]
    assert texts.manifest_text(found["manifest"]) == texts.manifest_text(golden["manifest"])  # 1 is not 1.0 there
    assert found["weights"] == golden["weights"]


if __name__ == "__main__":  # python -m tests.packaging.test_golden_wheel writes the golden packages
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        stored = {case: packaged(Path(scratch) / str(number), case) for number, case in enumerate(CASES)}
    GOLDEN.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    print(f"wrote {GOLDEN.relative_to(ROOT)}")
