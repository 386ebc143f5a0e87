"""The interface of every objective."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import make_dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from hear_ssl.model.options import option, options_of
from hear_ssl.objectives.encoded import Encoded

NEEDS = {  # what an objective can require of a step, and what it then finds in `Encoded`
    "teacher": "teacher_clip and teacher_tokens of an encoder that is the moving average of the trained one",
    "aligned": "views of one crop with the same time axis: token t of each stands for the same moment",
    "pitch_shift": "shifted_tokens of the first view shifted in pitch, and pitch_shift; the attribute `semitones` bounds the shift",
    "masks": "kept: each view's tokens are those of a random part of its time steps (keep in views)",
}


class Objective(nn.Module):
    """Encoded views in, scalar loss out; heads are inside.

    An objective is a subclass with a frozen dataclass `Options` nested in it, whose fields `__init__` accepts as keywords, with `dim`
    (width of clip embeddings and tokens) and `token_hop_ms` if it names them. The config adds its `weight` in the sum.

    views: how many views it compares, the first of the config; 0: all. needs: what else it requires, names in NEEDS.
    semitones: the largest pitch shift, for objectives that need one. metrics: what the last call measured, detached.
    """

    views: ClassVar[int] = 2
    needs: ClassVar[Set[str]] = frozenset()
    semitones: float = 0.0
    WeightedOptions: ClassVar[type[Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the dataclass of the options that a config has for the class, where pickle finds it."""
        super().__init_subclass__(**options)
        cls.WeightedOptions = _with_weight(cls)

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, Tensor] = {}

    def forward(self, encoded: Encoded) -> Tensor:
        """Return this rank's share of the loss, such that the mean over ranks is the loss of the whole batch."""
        raise NotImplementedError

    def update_teacher(self, momentum: float) -> None:
        """Update the moving averages of heads; nothing to do without them."""


def options_with_weight(kind: type[Objective]) -> type[Any]:
    """Return the dataclass of an objective's options and its weight in the sum."""
    return kind.WeightedOptions


def _with_weight(kind: type[Objective]) -> type[Any]:
    """Make that dataclass. Raises ValueError when `Options` is no frozen dataclass."""
    options = options_of(kind)
    weight = option(1.0, "weight in the sum; 0 leaves the objective out", "", 0.0)
    names = {"__module__": kind.__module__, "__doc__": options.__doc__, "__qualname__": f"{kind.__qualname__}.WeightedOptions"}
    return make_dataclass("WeightedOptions", [("weight", float, weight)], bases=(options,), namespace=names, frozen=True)
