"""The input of the objectives in a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Encoded:
    """The encoded views of one batch.

    clip: pooled embeddings (views, batch, dim).
    tokens: tokens of the leading views of equal length (views, batch, tokens, dim).
    view_tokens: tokens of every view, (batch, tokens, dim) each.
    kept: sorted time steps of `tokens` (views, batch, tokens), when not all time steps were encoded.
    teacher_clip, teacher_tokens: of the first two views, from the moving-average encoder on all time steps, without gradient.
    shifted_tokens: tokens of the first view (batch, tokens, dim) after a pitch shift of pitch_shift semitones (batch,).
    A field that no objective needs is None.
    """

    clip: Tensor
    tokens: Tensor | None = None
    view_tokens: Sequence[Tensor] = ()
    kept: Tensor | None = None
    teacher_clip: Tensor | None = None
    teacher_tokens: Tensor | None = None
    shifted_tokens: Tensor | None = None
    pitch_shift: Tensor | None = None
