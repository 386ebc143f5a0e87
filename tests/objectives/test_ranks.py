"""Two processes with half the clips each learn what one process with all of them learns: loss, gradients and buffers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.objectives.ranks import COMPILED, OBJECTIVES, alone, two_ranks

Results = dict[str, tuple[Tensor, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return two_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OBJECTIVES, COMPILED])
def test_two_ranks_equal_one(parallel: Results, name: str) -> None:
    loss, single = alone(name.partition(",")[0])
    parallel_loss, double = parallel[name]
    torch.testing.assert_close(parallel_loss, loss, rtol=1e-5, atol=1e-5)
    assert set(double) == set(single)
    assert any(gradient.abs().max() > 1e-4 for key, gradient in single.items() if not key.startswith("buffer"))
    for key, gradient in single.items():
        torch.testing.assert_close(double[key], gradient, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
