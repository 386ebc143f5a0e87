"""What an objective sees of a step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Encoded:
    """The encoder's view of one batch.

    clip: pooled embeddings (views, batch, dim). tokens: (views, batch, tokens, dim). teacher_clip and teacher_tokens:
    the same from the EMA encoder, without gradient, when the objective needs them. pitch_shift: how far the third view,
    when there is one, was shifted against the first (batch,), in semitones.
    """

    clip: Tensor
    tokens: Tensor
    teacher_clip: Tensor | None = None
    teacher_tokens: Tensor | None = None
    pitch_shift: Tensor | None = None
