"""Fixtures shared by the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hear_ssl.evaluation.protocol import predictor


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64, in which no ReLU turns by rounding; oneDNN's products are float32."""
    monkeypatch.setattr(predictor, "ONEDNN", False)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
