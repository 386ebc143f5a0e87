"""Coordinates map both ways, the perturbation keeps the distribution, and the tasks' parameters stay apart from training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_ssl.synthesis.parameter_space import Coordinate, held_out_region, perturb, training_region
from tests.synthesis.measure import held_out


def test_perturbation_has_the_strength_delta_and_keeps_the_distribution() -> None:
    rng = np.random.default_rng(0)
    middle = np.full(20000, 0.5)
    assert np.std(perturb(middle, 0.1, rng) - middle) == pytest.approx(0.1, rel=0.03)
    moved = perturb(rng.random(100000), 0.4, rng)
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    np.testing.assert_allclose(np.histogram(moved, 10, (0, 1))[0] / 10000, 1.0, atol=0.05)
    assert np.array_equal(perturb(middle, 0.0, rng), middle)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_no_training_coordinate_is_ever_held_out(u: float, v: float) -> None:
    assert not held_out(training_region(np.array([u])))[0]
    assert held_out(held_out_region(np.array([v])))[0]
    assert abs(float(training_region(np.array([u]))[0]) - float(held_out_region(np.array([v]))[0])) > 0.009 / 16


@pytest.mark.parametrize("coordinate", [Coordinate("a", -3.0, 9.0), Coordinate("b", 0.01, 4.0, log=True)])
def test_coordinates_map_both_ways(coordinate: Coordinate) -> None:
    assert coordinate.value(0.0) == pytest.approx(coordinate.low)
    assert coordinate.value(1.0) == pytest.approx(coordinate.high)
    assert coordinate.inverse(coordinate.value(0.3)) == pytest.approx(0.3)
