"""The weighted sum of objectives on one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hear_ssl.model.options import Part
from hear_ssl.model.parts import build
from hear_ssl.objectives import OBJECTIVES
from hear_ssl.objectives.base import Objective, options_with_weight
from hear_ssl.objectives.encoded import Encoded


class WeightedSum(Objective):
    """The weighted sum of several objectives; metrics contain the unweighted loss of each term."""

    def __init__(self, terms: dict[str, Objective], weights: dict[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights
        self.required = frozenset().union(*(term.needs for term in terms.values()))
        self.semitones = max((term.semitones for term in terms.values()), default=0.0)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the weighted sum of the terms' losses."""
        total = encoded.clip.new_zeros((), dtype=encoded.clip.float().dtype)
        for name, term in self.terms.items():
            loss = term(encoded)
            self.metrics[f"loss_{name}"] = loss.detach()
            total = total + self.weights[name] * loss
        return total

    def update_teacher(self, momentum: float) -> None:
        """Update the moving averages in the heads of every term."""
        for term in self.terms.values():
            assert isinstance(term, Objective)
            term.update_teacher(momentum)


def objective(name: str, **options: Any) -> Part:
    """Select one of our objectives by name and return it as a Part; omitted options have their defaults, and weight is 1."""
    kind = OBJECTIVES[name]
    return Part(name, kind, options_with_weight(kind)(**options))


def build_objective(parts: Mapping[str, Part], dim: int, token_hop_ms: float) -> WeightedSum:
    """Return the weighted sum of the parts whose weight is above 0, for tokens (..., dim) every `token_hop_ms`.

    Raises ValueError when there is none, or an objective cannot be built from its options.
    """
    weights = term_weights(parts)
    return WeightedSum({name: build(parts[name], dim=dim, token_hop_ms=token_hop_ms) for name in weights}, weights)


def term_weights(parts: Mapping[str, Part]) -> dict[str, float]:
    """Return the weight of every term that is trained. Raises ValueError when there is none."""
    weights = {name: float(part.options.weight) for name, part in parts.items() if part.options.weight > 0}
    if not weights:
        raise ValueError("the config names no objective; name one, such as objective=nt_xent or objective.nt_xent.weight=1")
    return weights
