"""Measures of embeddings at their known values."""

from __future__ import annotations

import math

import pytest
import torch

from hear_ssl.training.collapse import MEASURED_ROWS, alignment, effective_rank, measures, similarities, spread, uniformity


def test_effective_rank_counts_even_directions_and_sees_collapse() -> None:
    basis = torch.eye(8)[:4]
    rows = torch.cat([basis, -basis])  # four even directions, centred
    assert float(effective_rank(rows)) == pytest.approx(4.0, rel=1e-4)
    line = torch.linspace(-1, 1, 32)[:, None] * torch.ones(1, 8)
    assert float(effective_rank(line + 5.0)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_effective_rank_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, shape[1]) + 1.0
    values = torch.linalg.svdvals(rows.double() - rows.double().mean(0))
    shares = values[values > 1e-9] / values.sum()
    assert float(effective_rank(rows)) == pytest.approx(math.exp(-float((shares * shares.log()).sum())), rel=1e-4)


def test_spread_is_near_one_for_even_and_zero_for_equal_embeddings() -> None:
    rows = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert float(spread(rows)) == pytest.approx(1.0, rel=0.02)
    assert float(spread(torch.ones(10, 32))) == pytest.approx(0.0, abs=1e-6)


def test_alignment_is_zero_for_equal_and_four_for_opposite_views() -> None:
    rows = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    assert float(alignment(rows, 3 * rows)) == pytest.approx(0.0, abs=1e-6)
    assert float(alignment(rows, -rows)) == pytest.approx(4.0, rel=1e-5)


def test_uniformity_is_zero_when_collapsed_and_lower_when_spread() -> None:
    assert float(uniformity(torch.ones(10, 8))) == pytest.approx(0.0, abs=1e-6)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(uniformity(opposite)) == pytest.approx(-8.0, rel=1e-5)  # ln exp(-2 * 4)


def test_similarities_separate_positives_from_negatives() -> None:
    positive, negative = similarities(torch.eye(4), torch.eye(4))
    assert (float(positive), float(negative)) == (1.0, 0.0)


def test_measures_are_finite_on_a_real_batch() -> None:
    found = measures(torch.randn(2, 16, 8))
    assert all(math.isfinite(float(value)) for value in found.values())


def test_of_a_large_batch_the_first_rows_stand_for_all() -> None:
    clip = torch.randn(2, MEASURED_ROWS + 8, 4, generator=torch.Generator().manual_seed(0))
    assert measures(clip) == measures(clip[:, :MEASURED_ROWS])
