"""The calling form of every objective."""

from __future__ import annotations

from torch import Tensor, nn

from hear_ssl.objectives.encoded import Encoded


class Objective(nn.Module):
    """Encoded views in, scalar loss out; heads live inside.

    needs_teacher: whether the step must run the EMA encoder. needs_pitch_view: whether it must encode a third view, the
    pitch-shifted first. metrics: what the last call measured, detached.
    """

    needs_teacher: bool = False
    needs_pitch_view: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, Tensor] = {}

    def forward(self, encoded: Encoded) -> Tensor:
        """Return this rank's share of the loss, such that the mean over ranks is the loss of the whole batch."""
        raise NotImplementedError

    def update_teacher(self, momentum: float) -> None:
        """Move EMA heads towards their trained twins; nothing to do without them."""
