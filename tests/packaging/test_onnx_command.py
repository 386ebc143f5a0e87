"""`python -m NAME onnx OUT.onnx`: what it writes and prints, and its mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hear_ssl.packaging.package import package
from tests.packaging.test_package import load, request

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModuleType]:
    """Return a source tree with its weights in it and the module loaded from it."""
    folder = tmp_path_factory.mktemp("onnx")
    package(request(run, bundle_weights=True), folder)
    return folder / "hear_test", load(folder)


def command(tree: Path, *arguments: str, cwd: Path, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command of a source tree in a folder; modules in `first` come before all others."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*([first] if first else []), str(tree)])}
    line = [sys.executable, "-m", "hear_test", "onnx", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def test_the_file_gives_the_embeddings_of_the_package(exported: tuple[Path, ModuleType], tmp_path: Path) -> None:
    tree, module = exported
    done = command(tree, "made/model.onnx", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("made/model.onnx: ")
    assert "scene_embeddings, timestamp_embeddings, timestamps_ms; largest difference from torch " in done.stdout
    assert os.listdir(tmp_path / "made") == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "made" / "model.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    model, audio = module.load_model(), 0.1 * torch.randn(2, 30011)
    assert (facts["name"], facts["version"], facts["sample_rate"]) == ("hear_test", "0.1.0", str(model.sample_rate))
    scene, embeddings, times_ms = map(torch.from_numpy, session.run(None, {"waveform": audio.numpy()}))
    torch.testing.assert_close(scene, module.get_scene_embeddings(audio, model), rtol=0, atol=1e-4)
    expected, expected_ms = module.get_timestamp_embeddings(audio, model)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-4)
    assert torch.equal(times_ms, expected_ms)


def test_without_onnxruntime_the_file_is_written_and_not_compared(exported: tuple[Path, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    done = command(exported[0], "scene.onnx", "--only", "scene", cwd=tmp_path, first=str(tmp_path / "first"))
    assert done.returncode == 0, done.stderr
    assert "scene_embeddings; not compared with torch, which needs onnxruntime (No module named onnxruntime)" in done.stdout
    session = onnxruntime.InferenceSession(tmp_path / "scene.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scene_embeddings"]


@pytest.mark.parametrize(
    ("arguments", "missing", "line"),
    [
        (["model.pt"], "", "model.pt is not allowed; give a name that ends in .onnx"),
        (["model.onnx", "--weights", "none"], "", "none is not a file"),
        (["model.onnx"], "onnxscript", "to export to ONNX run: python3 -m pip install onnx onnxscript onnxruntime (none here)"),
    ],
)
def test_a_mistake_is_one_line(exported: tuple[Path, ModuleType], tmp_path: Path, arguments: list[str], missing: str, line: str) -> None:
    if missing:
        (tmp_path / f"{missing}.py").write_text("raise ImportError('none here')")
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    done = command(exported[0], *arguments, cwd=tmp_path, first=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "model.onnx").read_bytes() == b"earlier"
