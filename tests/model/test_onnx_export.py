"""ONNX files in onnxruntime equal torch, whatever the length of the clip; parts that cannot be exported are refused in one line."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from examples.own_encoder import TimeNet
from examples.own_readout import Deltas
from examples.reference.concatenated import Concatenated
from hear_ssl.model import Chunk, Embedder, Readout
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.onnx_export import KINDS, check_packages, compare, export, from_torch, names_of
from tests.conftest import ROOT
from tests.golden_models import MAPPED, exact_audio
from tests.model.test_golden_embeddings import embedder

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SECONDS = (0.1, 1.0, 2.37, 12.3, 60.0)
RATE = 16000


def run(content: bytes, audio: Tensor, names: list[str]) -> list[Tensor]:
    """Return the outputs of an ONNX file."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(array) for array in session.run(names, {"waveform": audio.numpy()})]


def check(model: Embedder, content: bytes, audio: Tensor, allowed: Callable[[Tensor], float], kinds: tuple[str, ...] = KINDS) -> None:
    """Fail when an output of the file is further from torch than what is allowed of its expected values."""
    for found, expected in zip(run(content, audio, names_of(kinds)), from_torch(model, audio, kinds), strict=True):
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= allowed(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "composition"),
    [
        ("audio_ntt on pitch bands", MAPPED),
        ("audio_ntt with context", "between tokens"),
        ("convnext", "last layer"),
        ("vit", "mean of layers"),
    ],
)
def test_onnxruntime_equals_torch(encoder: str, composition: str) -> None:
    model = embedder(encoder, composition, mapped=composition == MAPPED)
    content = export(model, KINDS, {})
    for clips, seconds in enumerate(SECONDS[::-1], 1):
        noise = 0.1 * torch.randn(min(clips, 3), int(seconds * RATE), generator=torch.Generator().manual_seed(clips))
        check(model, content, noise, lambda expected: 1e-4)
    for time in (1, 18007, 60007):
        check(model, content, exact_audio(2, time), lambda expected: 1e-4)
    angle = torch.arange(2 * RATE) * (2.0 * math.pi / RATE)
    tones = torch.stack([torch.sin(angle * 55.0), 0.5 * torch.sin(angle * 440.0), 0.01 * torch.sin(angle * 5000.0)])
    for audio in (tones, torch.zeros(1, 5 * RATE), torch.zeros(2, 160)):
        check(model, content, audio, lambda expected: 1e-3 * float(expected.abs().max()))


@pytest.mark.slow
def test_a_file_is_the_same_each_time_and_names_its_dimensions() -> None:
    content = export(embedder("vit", "default"), ("scene",), {"sample_rate": "16000"})
    assert content == export(embedder("vit", "default"), ("scene",), {"sample_rate": "16000"})
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto)
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"waveform": ["batch", "time"], "scene_embeddings": ["batch", 144]}
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"sample_rate": "16000"}
    assert "CastLike" not in {node.op_type for node in proto.graph.node}  # onnxruntime warns of it
    assert str(ROOT).encode() not in content
    assert b"site-packages" not in content


def own(encoder: Any, scene: Any, timestamp: Any, **classes: type[Any]) -> Embedder:
    """Return a model with a user's classes."""
    mapping = {"frontend": {"n_mels": 32}, "encoder": encoder, "scene": scene, "timestamp": timestamp, "timestamps_per_token": 2}
    torch.manual_seed(0)
    return Embedder(embedder_config(mapping, "test", classes)).eval()


class Halves(Readout):
    """Timestamps: the first half of each token, written in place."""

    kinds = ("timestamp",)

    def __init__(self, layer_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.width = layer_dims[-1] // 2

    def add(self, state: Tensor, chunk: Chunk) -> None:
        """Write the dimensions."""
        state[:, chunk.timestamps] = chunk.layers[-1][:, :, : self.width]


class Branching(Readout):
    """Scenes: zeros for quiet clips, which no graph can decide."""

    kinds = ("scene",)
    width = 4

    def start(self, out: Tensor) -> list[Tensor]:
        """Return no frames."""
        return []

    def add(self, state: list[Tensor], chunk: Chunk) -> None:
        """Gather the first bands."""
        state.append(chunk.features[:, :4])

    def result(self, state: list[Tensor]) -> Tensor:
        """Return the means, or zeros."""
        mean = torch.cat(state, 2).mean(2)
        return mean if float(mean.abs().max()) > 0.01 else torch.zeros_like(mean)


class Fading(Branching):
    """Scenes: differ in torch and in the graph, because the class asks which it is."""

    def result(self, state: list[Tensor]) -> Tensor:
        """Return the means, or twice that."""
        mean = torch.cat(state, 2).mean(2)
        return mean * 2.0 if torch.compiler.is_compiling() else mean


@pytest.mark.slow
def test_a_users_parts_are_exported_and_compared() -> None:
    parts = {"TimeNet": TimeNet, "Deltas": Deltas, "Halves": Halves}
    model = own({"TimeNet": {"width": 16}}, ["pooled", {"Deltas": {}}], ["tokens", {"Halves": {}}], **parts)
    content = export(model, KINDS, {})
    assert max(compare(model, content, KINDS).values()) < 1e-3
    for time in (700, 18007, 60007):
        check(model, content, exact_audio(2, time), lambda expected: 1e-4)


@pytest.mark.slow
def test_the_encoder_of_the_reference_model_is_exported() -> None:
    encoders = '[{"audio_ntt": {"channels": 4, "dim": 16}}, {"audio_ntt": {"channels": 4, "dim": 12, "context": 2}}]'
    scene = [{"pooled": {"layers": "first.1,last.0"}}, "bands", {"linear": {"dims": 12}}]
    model = own(
        {"Concatenated": {"encoders": encoders}}, scene, [{"tokens": {"layers": "last.1"}}, "frames", "around"], Concatenated=Concatenated
    )
    content = export(model, KINDS, {})
    for time in (700, 18007, 60007):
        check(model, content, exact_audio(2, time), lambda expected: 1e-4)


@pytest.mark.parametrize(("part", "line"), [(Branching, "cannot be exported to ONNX"), (Fading, "is not this model")])
@pytest.mark.slow
def test_a_users_part_that_differs_is_refused_in_one_line(part: type[Any], line: str) -> None:
    model = own("audio_ntt", [{part.__name__: {}}], ["tokens"], **{part.__name__: part})
    with pytest.raises(ValueError, match=rf"{line} \(with the parts {part.__name__}\): ") as failure:
        compare(model, export(model, ("scene",), {}), ("scene",))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("version", ["2.0.0", "2.5.1+cu121"])
def test_an_old_torch_is_one_line(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(ValueError, match=rf"^torch is {version[:5]}.*; to export to ONNX install torch >= 2.6$"):
        check_packages()


@pytest.mark.slow
def test_importing_the_model_imports_no_onnx() -> None:
    code = "import sys, hear_ssl.model.hear, hear_ssl.model.__main__; print([name for name in sys.modules if name.startswith('onnx')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
