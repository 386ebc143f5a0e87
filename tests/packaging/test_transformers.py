"""A folder for transformers: `AutoModel.from_pretrained` gives the wheel's embeddings to the bit, `hear_ssl.load` reads the same file."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import hear_ssl as hs
from hear_ssl.model import Encoder
from hear_ssl.model.embedder_config import EmbedderConfig
from hear_ssl.model.options import FrontendConfig, Part
from hear_ssl.packaging.own_parts import own_parts, part_files
from hear_ssl.packaging.transformers_files import MODELING, WEIGHTS, transformers_files
from hear_ssl.part_files import load_part
from tests.conftest import ROOT
from tests.packaging import test_golden_wheel as golden

CONCATENATED = f"{ROOT / 'examples/reference/concatenated.py'}:Concatenated"
DELTAS = f"{ROOT / 'examples/own_readout.py'}:Deltas"
ENCODERS = json.dumps([{"audio_ntt": {"channels": 4, "dim": 16}}, {"convnext": {"dim": 16, "depth": 2}}])
FOLDER = Path(sys.prefix) / "transformers"  # `make transformers`: beside the environment, since Lightning imports what is in it
FOUND = importlib.util.find_spec("transformers") is not None or (FOLDER / "transformers").is_dir()
SCRIPT = """
import importlib, sys
import torch
from transformers import AutoFeatureExtractor, AutoModel

for folder in sys.argv[1:]:
    model, wheel = AutoModel.from_pretrained(f"{folder}/published", trust_remote_code=True), importlib.import_module("hear_golden")
    assert wheel.__file__.startswith(folder) and not model.training and model.dtype == torch.float32
    own = wheel.load_model()
    clips = 0.1 * torch.randn(3, 2 * own.sample_rate + 77)
    frames, times_ms = wheel.get_timestamp_embeddings(clips, own)
    with torch.no_grad():
        found = model(clips)
    assert torch.equal(found.pooler_output, wheel.get_scene_embeddings(clips, own))
    assert torch.equal(found.last_hidden_state, frames) and torch.equal(found.timestamps_ms, times_ms)
    assert frames.shape[2] == model.config.hidden_size and found.pooler_output.shape[1] == model.config.pooler_size
    extractor, short = AutoFeatureExtractor.from_pretrained(f"{folder}/published"), clips[1, :9001]
    inputs = extractor([clips[0].numpy(), short.numpy(), clips[2].numpy()], sampling_rate=16000, padding=True, return_tensors="pt")
    with torch.no_grad():
        padded = model(**inputs)
        scene, (alone, _) = model.get_scene_embeddings(short[None]), model.get_timestamp_embeddings(short[None])
    assert torch.equal(padded.pooler_output[1:2], scene) and torch.equal(padded.last_hidden_state[1:2, : alone.shape[1]], alone)
    assert not padded.last_hidden_state[1, alone.shape[1] :].any() and torch.equal(padded.timestamps_ms, times_ms)
    torch.testing.assert_close(padded.pooler_output[[0, 2]], found.pooler_output[[0, 2]])
    model(clips).pooler_output.square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.encoder.parameters())
    for name in [name for name in sys.modules if name.partition(".")[0] == "hear_golden"]:
        del sys.modules[name]
    sys.path.remove(folder + "/hear_golden")
    torch.save((clips, found.pooler_output), f"{folder}/found.pt")
print("equal")
"""


def tree_of(folder: Path, case: str) -> Path:
    """Write a source tree with bundled weights of fixed tensors and return it."""
    golden.packaged(folder, case)
    return folder / "hear_golden"


def own_tree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a source tree of a model with an encoder and a readout of a user's own and return it."""
    file = load_part(CONCATENATED, Encoder)
    config = EmbedderConfig(
        frontend=FrontendConfig(n_mels=32, layout="log"), encoder=Part(CONCATENATED, file.kind, file.kind.Options(ENCODERS), file.sha256)
    )
    monkeypatch.setattr(golden, "PLAIN", config)
    plain = golden.checkpoint_of
    monkeypatch.setattr(golden, "checkpoint_of", lambda name: {**plain(name), "parts": {"encoder.Concatenated": file.sha256}})
    case: dict[str, Any] = {"composition": {"scene": ["pooled", {DELTAS: {"power": 2.0}}]}}
    monkeypatch.setitem(golden.CASES, "own", ("plain", case))
    whole, files = golden.build_manifest, golden.package_files

    def with_parts(request: Any, checkpoint: Any, model: Any, weights: bytes) -> dict[str, Any]:
        with_parts.parts = own_parts(model.config)  # type: ignore[attr-defined]
        return whole(request, checkpoint, model, weights, with_parts.parts)  # type: ignore[attr-defined]

    monkeypatch.setattr(golden, "build_manifest", with_parts)
    monkeypatch.setattr(golden, "package_files", lambda request, *rest: files(request, *rest) | part_files(with_parts.parts, request.name))
    return tree_of(folder, "own")


def published(tree: Path) -> Path:
    """Write the folder for transformers next to a source tree and return it."""
    folder = tree.parent / "published"
    folder.mkdir()
    for name, content in transformers_files(tree).items():
        (folder / name).write_bytes(content)
    shutil.copy(tree / tree.name / "weights.safetensors", folder / WEIGHTS)
    return folder


def test_the_modeling_file_is_one_small_valid_file(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "mapped")
    files = transformers_files(tree)
    assert files == transformers_files(tree)
    source = files[f"{MODELING}.py"]
    assert len(source) < 100_000
    names = {node.module.partition(".")[0] for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module}
    assert names <= {"torch", "transformers"} | sys.stdlib_module_names
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", "-"]
    done = subprocess.run(ruff, input=source, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert sorted(files) == ["README.md", "config.json", "manifest.json", f"{MODELING}.py", "preprocessor_config.json"]
    assert files["README.md"].startswith(b'---\nlicense: "cc-by-4.0"\nlibrary_name: "transformers"\npipeline_tag: "feature-extraction"\n')
    assert b"AutoModel.from_pretrained(folder, trust_remote_code=True)" in files["README.md"]
    assert b"| noise | CC0-1.0 |" in files["README.md"]


def test_load_reads_a_published_folder_without_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(own_tree(tmp_path, monkeypatch))
    for file in folder.glob("*.py"):
        file.write_text("raise SystemExit('executed')\n")
    with pytest.raises(ValueError, match=r"has the class .* of a file with SHA-256"):
        hs.load(folder)
    model = hs.load(folder, parts=[key.rpartition(":")[0] for key in (CONCATENATED, DELTAS)])
    assert model.scene(torch.zeros(1, 8000)).shape[1] == json.loads((folder / "config.json").read_text())["pooler_size"]
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ValueError, match="another model or damaged"):
        hs.load(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing, which .*manifest\.json names"):
        hs.load(folder)


@pytest.mark.slow
@pytest.mark.skipif(not FOUND, reason="transformers is not installed; `make transformers` installs it next to the environment")
def test_auto_model_gives_the_embeddings_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "mapped", tmp_path / "own"]
    for folder in folders:
        folder.mkdir()
    published(tree_of(folders[0], "mapped, float16"))
    published(own_tree(folders[1], monkeypatch))
    paths = [str(folder / "hear_golden") for folder in folders] + ([str(FOLDER)] if FOLDER.is_dir() else [])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", SCRIPT, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stdout == "equal\n", done.stderr[-3000:]
    clips, found = torch.load(folders[0] / "found.pt", weights_only=True)
    assert torch.equal(hs.load(folders[0] / "published").scene(clips), found)
