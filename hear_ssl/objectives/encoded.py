"""What a training step gives to the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Encoded:
    """The encoded views of one batch.

    clip: pooled embeddings (views, batch, dim). tokens: those of the first views of one length (views, batch, tokens, dim).
    view_tokens: those of every view, (batch, tokens, dim) each. kept: the time steps that `tokens` stand for (views, batch, tokens),
    sorted, when not all of them were encoded. teacher_clip and teacher_tokens: of the first two views, from the moving-average encoder on
    all time steps, without gradient. shifted_tokens: those of the first view shifted in pitch (batch, tokens, dim), by pitch_shift
    semitones (batch,). What no objective needs is None.
    """

    clip: Tensor
    tokens: Tensor | None = None
    view_tokens: Sequence[Tensor] = ()
    kept: Tensor | None = None
    teacher_clip: Tensor | None = None
    teacher_tokens: Tensor | None = None
    shifted_tokens: Tensor | None = None
    pitch_shift: Tensor | None = None
