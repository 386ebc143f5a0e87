"""Layers at one level: each is what it was times a factor, and deviates as the others do."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from examples.reference import combine
from examples.reference.concatenated import Concatenated
from examples.reference.levels import LEVEL, bring_to_level, deviations
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, encoder
from hear_ssl.model.options import Part
from tests.examples.reference.test_combine import runs as runs  # a fixture


def concatenated(*encoders: Part) -> Part:
    """Return the selection of encoders as one."""
    options = json.dumps([{one.key: vars(one.options)} for one in encoders])
    return Part(f"{combine.FILE}:Concatenated", Concatenated, Concatenated.Options(encoders=options))


@pytest.mark.parametrize(
    ("count", "times", "context"), [(1, [], 0), (3, [], 0), (3, [1.0, 0.5, 3.0], 0), (3, [], 2), (3, [1.0, 0.5, 3.0], 2)]
)
def test_every_layer_is_what_it_was_times_its_factor(count: int, times: list[float], context: int) -> None:
    torch.manual_seed(0)
    first, last = encoder("audio_ntt", channels=4, dim=32), encoder("audio_ntt", channels=4, dim=32, context=context, band_pool=2)
    embedder = Embedder(EmbedderConfig(encoder=concatenated(*[first] * (count - 1), last) if count > 1 else first)).eval()
    features = embedder.frontend(torch.randn(2, 16000) * 0.1)
    with torch.no_grad():
        before = embedder.encoder(features)
        factors = bring_to_level(embedder, times, sounds=6)
        after = embedder.encoder(features)
    for old, new, factor in zip(before, after, factors, strict=True):
        torch.testing.assert_close(new, old * factor, rtol=1e-4, atol=1e-5)
    parts = torch.split(deviations(embedder, 6), list(embedder.encoder.layer_dims))
    assert [float(part.square().mean().sqrt()) for part in parts] == pytest.approx(
        [LEVEL, LEVEL, *(LEVEL * time for time in times or [1.0] * count)], rel=1e-3
    )
    assert max(factors) / min(factors) > 2  # there was something to do


def test_combined_runs_are_brought_to_their_levels(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine, "bring_to_level", partial(bring_to_level, sounds=6))
    plain, level = (combine.combine(runs[:1], random=True, level=wanted) for wanted in (None, [1.0, 2.0]))
    assert "levels" not in plain
    assert set(level["state_dict"]) == set(plain["state_dict"])
    [*_, first, second] = level["levels"]
    for place, factor in enumerate((first, second)):
        name = f"{combine.ENCODERS}{place}.output.1.bias"
        torch.testing.assert_close(level["state_dict"][name], plain["state_dict"][name] * factor)


def test_the_layer_below_blocks_over_time_has_their_factor() -> None:
    torch.manual_seed(0)
    embedder = Embedder(EmbedderConfig(encoder=encoder("audio_ntt", channels=4, dim=32, context=2))).eval()
    features = embedder.frontend(torch.randn(2, 16000) * 0.1)
    with torch.no_grad():
        before = embedder.encoder(features)
        factors = bring_to_level(embedder, sounds=6)
        after = embedder.encoder(features)
    assert factors[2] == factors[3]
    for old, new, factor in zip(before, after, factors, strict=True):
        torch.testing.assert_close(new, old * factor, rtol=1e-4, atol=1e-5)
    assert float(deviations(embedder, 6)[-32:].square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-3)


def test_layers_without_a_relu_are_refused() -> None:
    embedder = Embedder(replace(EmbedderConfig(), encoder=encoder("convnext", channels=8, depth=1)))
    with pytest.raises(ValueError, match="only layers that end in a ReLU"):
        bring_to_level(embedder, sounds=2)


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_times_are_a_positive_number_a_tower(times: list[float]) -> None:
    embedder = Embedder(EmbedderConfig(encoder=concatenated(*[encoder("audio_ntt", channels=4, dim=32)] * 2)))
    with pytest.raises(ValueError, match="a positive number for each encoder, 2 in all"):
        bring_to_level(embedder, times, sounds=2)
