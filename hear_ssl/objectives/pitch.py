"""Pitch equivariance: a pitch code of each token that rises by as many semitones as the view was shifted.

After Riou et al., PESTO: Pitch Estimation with Self-supervised Transposition-equivariant Objective (2023),
https://arxiv.org/abs/2309.02265, section 3: the shift is known, the pitch is not. The code is one number per token, in
semitones. A constant code has a high loss, so no other term is needed against collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.model.options import option
from hear_ssl.objectives.base import Objective
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.options import width_option


def equivariance(code: Tensor, shifted_code: Tensor, shift: Tensor, scale: float) -> Tensor:
    """Return the mean Huber error (semitones) of shifted_code - code (batch, tokens) against the shift (batch,)."""
    with torch.autocast(code.device.type, enabled=False):
        difference = shifted_code.float() - code.float()
        return F.huber_loss(difference, shift.unsqueeze(1).expand_as(difference), delta=scale)


class PitchEquivariance(Objective):
    """A small head that predicts the pitch code of every token of the original and the shifted view."""

    @dataclass(frozen=True)
    class Options:
        """Shifts of up to half an octave."""

        semitones: float = option(6.0, "largest shift of the pitch-shifted view, up or down", "semitones", 0.5, 24.0)
        hidden_dim: int = width_option(256, "width of the pitch head's hidden layer")
        scale: float = option(1.0, "errors above this count linearly (Huber)", "semitones", 1e-3, 100.0)

    needs = frozenset({"pitch_shift"})

    def __init__(
        self, dim: int, semitones: float = Options.semitones, hidden_dim: int = Options.hidden_dim, scale: float = Options.scale
    ) -> None:
        super().__init__()
        self.semitones, self.scale = semitones, scale
        self.head = nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, 1))

    def forward(self, encoded: Encoded) -> Tensor:
        """Return the loss between the first view and its pitch-shifted copy."""
        assert encoded.tokens is not None
        assert encoded.shifted_tokens is not None
        assert encoded.pitch_shift is not None
        code, shifted = self.head(torch.stack([encoded.tokens[0], encoded.shifted_tokens])).squeeze(-1)  # each (batch, tokens)
        return equivariance(code, shifted, encoded.pitch_shift, self.scale)
