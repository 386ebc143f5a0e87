"""The graph that is exported to ONNX equals the embedder, whose chunks and row slices it does without; here both run in torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hear_ssl.model import Embedder, Encoder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.frontend import LogMel
from hear_ssl.model.onnx_graph import Graph, Transform, fourier_basis
from hear_ssl.model.options import FrontendConfig
from tests.golden_models import ENCODERS, FRONTENDS, MAPPED, compositions_of, exact_audio
from tests.model.test_golden_embeddings import embedder

LENGTHS = (1, 18007, 40007)  # samples; 32,000 are one window of the vit


@torch.no_grad()
def largest_difference(model: Embedder, audio: Tensor) -> float:
    """Return the largest difference between the graph of a model and the model, over all outputs."""
    found, expected = Graph(model)(audio), (model.scene(audio), *model.timestamps(audio))
    assert [one.shape for one in found] == [one.shape for one in expected]
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_graph_equals_the_embedder(encoder: str) -> None:
    models = [embedder(encoder, name) for name in compositions_of(encoder)] + [embedder(encoder, MAPPED, mapped=True)]
    for model in models:
        for time in LENGTHS:
            assert largest_difference(model, exact_audio(2, time)) < 1e-4


@pytest.mark.parametrize("layout", FRONTENDS)
def test_tones_and_silence_have_the_same_features(layout: str) -> None:
    frontend = LogMel(FrontendConfig(**FRONTENDS[layout]), 4)
    time = torch.arange(16000) / 16000.0
    tones = torch.stack([amplitude * torch.sin(2.0 * math.pi * pitch * time) for pitch, amplitude in ((440.0, 1.0), (3000.0, 0.1))])
    for audio in (tones, torch.zeros(1, 16000)):
        found = Transform(frontend)(audio, 2)
        expected = frontend(audio, 2, found.shape[2])
        assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


def test_the_basis_is_that_of_the_fourier_transform() -> None:
    window, audio = torch.hann_window(64), torch.randn(64)
    spectrum = torch.fft.rfft(audio * window)[3:20]
    found = fourier_basis(window, 3, 20).squeeze(1) @ audio
    torch.testing.assert_close(found, torch.cat([spectrum.real, -spectrum.imag]), rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model, audio = embedder("audio_ntt", MAPPED), exact_audio(1, 18007)
    before = model.scene(audio)
    Graph(model)
    assert torch.equal(model.scene(audio), before)


class Overlapping(Encoder):
    """Windows whose tokens depend on frames to either side."""

    time_stride, halo_frames, chunk_frames, layer_dims = 4, 8, 400, (8,)

    def forward(self, features: Tensor, kept: Tensor | None = None) -> list[Tensor]:
        """Return the first bands of every fourth frame."""
        return [features[:, :8, ::4].transpose(1, 2)]


def test_windows_with_frames_to_either_side_are_refused_in_one_line() -> None:
    mapping = {"encoder": {"Overlapping": {}}, "frontend": {"n_mels": 16}}
    model = Embedder(embedder_config(mapping, "test", {"Overlapping": Overlapping}))
    with pytest.raises(ValueError, match=r"^the encoder Overlapping .* chunk_frames is 400, its halo_frames 8: one of them must be 0$"):
        Graph(model)
