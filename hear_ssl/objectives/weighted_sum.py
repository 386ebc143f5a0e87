"""The weighted sum of objectives on one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from torch import Tensor, nn

from hear_ssl.objectives.barlow_twins import BarlowTwins
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.byol import BYOL
from hear_ssl.objectives.cola import COLA
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.frame import FrameContrast
from hear_ssl.objectives.moco_v3 import MoCoV3
from hear_ssl.objectives.nt_xent import NTXent
from hear_ssl.objectives.options import ObjectiveConfig
from hear_ssl.objectives.pitch import PitchEquivariance
from hear_ssl.objectives.vicreg import VICReg


class WeightedSum(Objective):
    """The sum of several objectives, each times its weight; metrics hold each term's own loss."""

    def __init__(self, terms: dict[str, Objective], weights: dict[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights
        self.needs_teacher = any(term.needs_teacher for term in terms.values())
        self.needs_pitch_view = any(term.needs_pitch_view for term in terms.values())

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


def build_objective(config: ObjectiveConfig, dim: int, hop_ms: float) -> WeightedSum:
    """Return the weighted sum of the terms whose weight is above 0, for tokens (…, dim) every `hop_ms`.

    Raises ValueError when there is none.
    """
    builders: dict[str, Callable[[], Objective]] = {
        "nt_xent": lambda: NTXent(dim, config.nt_xent),
        "cola": lambda: COLA(dim, config.cola),
        "moco_v3": lambda: MoCoV3(dim, config.moco_v3),
        "byol": lambda: BYOL(dim, config.byol),
        "barlow_twins": lambda: BarlowTwins(dim, config.barlow_twins),
        "vicreg": lambda: VICReg(dim, config.vicreg),
        "frame": lambda: FrameContrast(dim, config.frame, hop_ms),
        "pitch": lambda: PitchEquivariance(dim, config.pitch),
    }
    weights = term_weights(config)
    return WeightedSum({name: builders[name]() for name in weights}, weights)


def term_weights(config: ObjectiveConfig) -> dict[str, float]:
    """Return the weight of every term that is trained. Raises ValueError when there is none."""
    weights = {term.name: float(getattr(config, term.name).weight) for term in fields(config)}
    if not any(weights.values()):
        raise ValueError(f"the config names no objective; give one a weight, such as objective.nt_xent.weight=1 (of {', '.join(weights)})")
    return {name: weight for name, weight in weights.items() if weight > 0}
