"""Projected embeddings: the linear map of the plain ones, whatever the embedder is made of; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hear_ssl.checkpoint import without_reductions
from hear_ssl.model import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, encoder
from hear_ssl.model.options import CompositionConfig

TOWERS = EmbedderConfig(
    encoder=encoder("audio_ntt", channels=4, dim=16),
    beside=(
        encoder("audio_ntt", channels=4, dim=16),
        encoder("audio_ntt", channels=4, dim=24, context=2, band_pool=2),
    ),
    scene=CompositionConfig(pooling="mean+max,std", raw_mel=True, towers=2, reduction=(9, 8, 7, 6, 5, 4, 3, 2, 12, 20)),
    timestamp=CompositionConfig(
        layers="last", raw_mel=True, per_token=2, contexts_ms=(200.0,), around_ms=(100.0,), reduction=(5, 6, 7, 8, 9, 10, 11, 12, 30)
    ),
)


@pytest.mark.parametrize("time", [1, 16000, 100003])
def test_projected_embeddings_are_a_linear_map_of_the_plain_ones(time: int) -> None:
    torch.manual_seed(0)
    model = Embedder(TOWERS).eval()
    plain = Embedder(without_reductions(TOWERS)).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "_reduction" not in name})
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (20, 30)
    assert (plain.scene_embedding_size, plain.timestamp_embedding_size) == (sum(model.scene_parts()), sum(model.timestamp_parts()))
    assert model.scene_parts()[-1] == 3 * 64
    assert model.timestamp_parts() == [16, 16, 24, 16, 16, 24, 4 * 64, 2 * 64]
    assert model.scene_reduction is not None
    assert model.timestamp_reduction is not None
    audio = torch.randn(2, time) * 0.1
    with torch.inference_mode():
        torch.testing.assert_close(model.scene(audio), model.scene_reduction(plain.scene(audio)))
        (projected, times_ms), (whole, same_ms) = model.timestamps(audio), plain.timestamps(audio)
        torch.testing.assert_close(projected, model.timestamp_reduction(whole))
    assert torch.equal(times_ms, same_ms)


@pytest.mark.parametrize("reduction", [(5, 20), (9, 8, 7, 6, 5, 4, 3, 2, 193, 20), (9, 8, 7, 6, 5, 4, 3, 2, 1, 200)])
def test_a_projection_that_does_not_fit_is_one_line(reduction: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not fit this embedding, whose parts have") as caught:
        Embedder(replace(TOWERS, scene=replace(TOWERS.scene, reduction=reduction)))
    assert "\n" not in str(caught.value)
