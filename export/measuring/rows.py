"""One row of the verification table, and what every check is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor


@dataclass
class Row:
    """A rule, what was measured, and whether it holds."""

    name: str
    rule: str
    measured: str
    passed: bool


@dataclass
class Subject:
    """The module under test, its model, and the weights file given (None: the module finds its own)."""

    module: Any
    model: Any
    weights: Optional[str]

    def scene(self, audio: Tensor) -> Tensor:
        """Call get_scene_embeddings."""
        embeddings: Tensor = self.module.get_scene_embeddings(audio, self.model)
        return embeddings

    def timestamps(self, audio: Tensor) -> Tuple[Tensor, Tensor]:
        """Call get_timestamp_embeddings."""
        embeddings, timestamps_ms = self.module.get_timestamp_embeddings(audio, self.model)
        return embeddings, timestamps_ms

    def noise(self, seconds: float, batch: int = 1, seed: int = 0) -> Tensor:
        """Return white noise (batch, seconds * sample_rate) within [-1, 1]."""
        samples = max(1, round(seconds * self.model.sample_rate))
        return torch.rand(batch, samples, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


Check = Callable[[Subject], Row]


def run_checks(subject: Subject, checks: Sequence[Check]) -> List[Row]:
    """Run every check; one that raises is a failed row that says what it raised."""
    rows = []
    for check in checks:
        rule = (check.__doc__ or "").strip().splitlines()[0]
        try:
            row = check(subject)
        except Exception as error:  # a module under test may raise anything: that is the finding
            row = Row("", "", f"raised {type(error).__name__}: {' '.join(str(error).split())[:160]}", False)
        rows.append(Row(check.__name__.replace("_", " "), rule, row.measured, row.passed))
    return rows


def found(measured: str, passed: bool) -> Row:
    """Return a row whose name and rule the runner fills in from the check."""
    return Row("", "", measured, bool(passed))
