"""Pitch equivariance: a code of each clip that rises by as many semitones as the view was shifted.

In the spirit of Riou et al., PESTO: Pitch Estimation with Self-supervised Transposition-equivariant Objective (2023),
https://arxiv.org/abs/2309.02265, section 3: the shift is known, the pitch is not. The code is one number a token, in
semitones; a constant code cannot satisfy the loss, so nothing else holds it apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.options import PitchConfig


def equivariance(code: Tensor, shifted_code: Tensor, shift: Tensor, scale: float) -> Tensor:
    """Return the mean Huber error (semitones) of shifted_code - code (batch, tokens) against the shift (batch,)."""
    with torch.autocast(code.device.type, enabled=False):
        difference = shifted_code.float() - code.float()
        return F.huber_loss(difference, shift.unsqueeze(1).expand_as(difference), delta=scale)


class PitchEquivariance(Objective):
    """A small head that reads the pitch code from every token of the plain and of the shifted view."""

    needs_pitch_view = True

    def __init__(self, dim: int, config: PitchConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.head = nn.Sequential(nn.Linear(dim, config.hidden_dim), nn.ReLU(inplace=True), nn.Linear(config.hidden_dim, 1))

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss between the first view and the third, its pitch-shifted twin."""
        assert encoded.pitch_shift is not None
        code, shifted = self.head(torch.stack([encoded.tokens[0], encoded.tokens[2]])).squeeze(-1)  # each (batch, tokens)
        return equivariance(code, shifted, encoded.pitch_shift, self.scale)
