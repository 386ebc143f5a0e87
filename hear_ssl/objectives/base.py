"""The interface of every objective."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar

from torch import Tensor, nn

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

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, Tensor] = {}

    def forward(self, encoded: Encoded) -> Tensor:
        """Return this rank's share of the loss, such that the mean over ranks is the loss of the whole batch."""
        raise NotImplementedError

    def update_teacher(self, momentum: float) -> None:
        """Update the moving averages of heads; nothing to do without them."""
