"""The linear map of an embedding: that of the readouts before it, whatever they are; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, encoder, readout, without_maps
from hear_ssl.model.readouts import Linear

PLAIN = EmbedderConfig(
    encoder=encoder("audio_ntt", channels=4, dim=24, context=2, band_pool=2),
    scene=(readout("pooled", how="mean+max,std"), readout("bands")),
    timestamp=(readout("tokens", layers="last"), readout("contexts"), readout("frames"), readout("around", ms=(100.0,))),
    timestamps_per_token=2,
)
MAPPED = replace(PLAIN, scene=(*PLAIN.scene, readout("linear", dims=20)), timestamp=(*PLAIN.timestamp, readout("linear", dims=30)))


def linear_of(readout: torch.nn.Module) -> Linear:
    """Return the linear map that a readout begins with."""
    first = readout.get_submodule("readouts.0")
    assert isinstance(first, Linear)
    return first


@pytest.mark.parametrize("time", [1, 16000, 100003])
def test_mapped_embeddings_are_a_linear_map_of_the_plain_ones(time: int) -> None:
    torch.manual_seed(0)
    model, plain = Embedder(MAPPED).eval(), Embedder(PLAIN).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "_readout" not in name})
    assert without_maps(MAPPED) == PLAIN
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (20, 30)
    audio = torch.randn(2, time) * 0.1
    with torch.inference_mode():
        torch.testing.assert_close(model.scene(audio), linear_of(model.scene_readout).map(plain.scene(audio)))
        (mapped, times_ms), (whole, same_ms) = model.timestamps(audio), plain.timestamps(audio)
        torch.testing.assert_close(mapped, linear_of(model.timestamp_readout).map(whole))
    assert torch.equal(times_ms, same_ms)


def test_readouts_after_a_map_are_not_mapped() -> None:
    torch.manual_seed(0)
    model = Embedder(replace(PLAIN, scene=(readout("pooled"), readout("linear", dims=20), readout("bands")))).eval()
    bands = Embedder(replace(PLAIN, scene=(readout("bands"),))).eval()
    audio = torch.randn(2, 30000) * 0.1
    with torch.inference_mode():
        assert torch.equal(model.scene(audio)[:, 20:], bands.scene(audio))
    assert model.scene_embedding_size == 20 + 3 * 64


def test_maps_are_not_trained() -> None:
    model = Embedder(MAPPED)
    assert not any(parameter.requires_grad for parameter in model.scene_readout.parameters())
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
