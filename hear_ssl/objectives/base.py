"""The interface of every objective."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import make_dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from hear_ssl.model.options import option, options_of
from hear_ssl.objectives.encoded import Encoded

NEEDS = {  # what an objective can require of a training step, and the fields of `Encoded` that it then gets
    "teacher": "teacher_clip and teacher_tokens of an encoder that is the moving average of the trained one",
    "aligned": "views of one crop with the same time axis: token t of each view covers the same time frames",
    "pitch_shift": "shifted_tokens of the first view shifted in pitch, and pitch_shift; the attribute `semitones` bounds the shift",
    "masks": "kept: each view's tokens are those of a random part of its time steps (keep in views)",
}


class Objective(nn.Module):
    """Compute a scalar loss from encoded views; projection heads are part of the objective.

    An objective is a subclass with a nested frozen dataclass `Options`, whose fields `__init__` accepts as keywords; `__init__` also
    receives `dim` (width of clip embeddings and tokens) and `token_hop_ms` if its signature names them. The config adds `weight`, the
    objective's weight in the sum.

    views: number of views it compares, the first ones of the config; 0: all. needs: names in NEEDS of what else it requires.
    semitones: largest pitch shift, for objectives that need one. metrics: detached values to log from the last call.
    """

    views: ClassVar[int] = 2
    needs: ClassVar[Set[str]] = frozenset()
    semitones: float = 0.0
    WeightedOptions: ClassVar[type[Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the dataclass of the options that a config has for the class, in a module where pickle finds it."""
        super().__init_subclass__(**options)
        cls.WeightedOptions = _with_weight(cls)

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, Tensor] = {}

    def forward(self, encoded: Encoded) -> Tensor:
        """Return this rank's loss; its mean over ranks is the loss of the whole batch."""
        raise NotImplementedError

    def update_teacher(self, momentum: float) -> None:
        """Update the moving averages of heads; do nothing by default."""


def options_with_weight(kind: type[Objective]) -> type[Any]:
    """Return the dataclass with an objective's options and its weight in the sum."""
    return kind.WeightedOptions


def _with_weight(kind: type[Objective]) -> type[Any]:
    """Make that dataclass. Raises ValueError when `Options` is not a frozen dataclass."""
    options = options_of(kind)
    weight = option(1.0, "weight in the sum; 0 leaves the objective out", "", 0.0)
    names = {"__module__": kind.__module__, "__doc__": options.__doc__, "__qualname__": f"{kind.__qualname__}.WeightedOptions"}
    return make_dataclass("WeightedOptions", [("weight", float, weight)], bases=(options,), namespace=names, frozen=True)
