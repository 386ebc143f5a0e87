"""Encoding in chunks: the gradient of the whole batch in the memory of a chunk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hear_ssl.distributed.gradient_cache import encode_in_chunks
from hear_ssl.model.embedder_config import encoder as selected
from hear_ssl.model.encoders import build_encoder
from hear_ssl.objectives.nt_xent import nt_xent


def gradients(encoder: nn.Module, features: Tensor, chunk: int) -> tuple[Tensor, list[Tensor]]:
    encoder.zero_grad()
    z_a, z_b = encode_in_chunks(encoder, features, chunk).mean(1).chunk(2)
    loss = nt_xent(z_a, z_b, 0.1)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(selected("vit", dim=12, depth=2, heads=2), 64)
    features = torch.randn(16, 64, 40)
    loss, whole = gradients(encoder, features, 0)
    chunked_loss, chunked = gradients(encoder, features, chunk)
    torch.testing.assert_close(chunked_loss, loss, rtol=1e-6, atol=1e-6)
    assert len(whole) == len(chunked) > 20
    for one, other in zip(chunked, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_batch_norm_counts_every_row_once() -> None:
    torch.manual_seed(0)
    features = torch.randn(8, 64, 40)
    models = [build_encoder(selected("audio_ntt", channels=4, dim=16, dropout=0.0), 64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    with torch.no_grad():
        for rows in torch.split(features, 4):
            models[0](rows)
    gradients(models[1], features, 4)
    expected, found = (model.state_dict()["convolutions.0.1.running_mean"] for model in models)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


def test_dropout_is_drawn_once() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(selected("audio_ntt", channels=4, dim=16, dropout=0.5), 64)
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    torch.manual_seed(1)
    _, first = gradients(encoder, torch.randn(8, 64, 40), 4)
    torch.manual_seed(1)
    _, second = gradients(encoder, torch.randn(8, 64, 40), 4)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
