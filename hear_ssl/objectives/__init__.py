"""Objectives, one file each, and their weighted sum on one forward pass."""

from __future__ import annotations

from torch import Tensor, nn

from hear_ssl.config import ObjectiveConfig
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.nt_xent import NTXent

__all__ = ["Encoded", "NTXent", "Objective", "WeightedSum", "build_objective"]


class WeightedSum(Objective):
    """The sum of several objectives, each times its weight; metrics hold each term's own loss."""

    def __init__(self, terms: dict[str, Objective], weights: dict[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights
        self.needs_teacher = any(term.needs_teacher for term in terms.values())

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the weighted sum of the terms' losses."""
        total = encoded.clip.new_zeros((), dtype=encoded.clip.float().dtype)
        for name, term in self.terms.items():
            loss = term(encoded)
            self.metrics[f"loss_{name}"] = loss.detach()
            total = total + self.weights[name] * loss
        return total

    def update_teacher(self, momentum: float) -> None:
        """Move the EMA heads of every term."""
        for term in self.terms.values():
            assert isinstance(term, Objective)
            term.update_teacher(momentum)


def build_objective(config: ObjectiveConfig, dim: int) -> Objective:
    """Return the weighted sum of the terms whose weight is above 0. Raises ValueError when there is none."""
    terms: dict[str, Objective] = {}
    if config.nt_xent.weight > 0:
        terms["nt_xent"] = NTXent(dim, config.nt_xent)
    if not terms:
        raise ValueError("objective: every weight is 0; give one term a weight, such as objective.nt_xent.weight=1")
    return WeightedSum(terms, {name: getattr(config, name).weight for name in terms})
