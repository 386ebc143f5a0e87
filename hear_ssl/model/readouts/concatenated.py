"""The readouts of an embedding, concatenated in the order of their list."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..options import Part
from ..parts import build
from .base import Chunk, Readout
from .check import check_readout

OURS = __name__.rpartition(".")[0] + "."
State = Tuple[Optional[Tensor], List[Tuple[Readout, Tensor, Any]]]


class Concatenated(Readout):
    """The embeddings of several readouts, one after the other."""

    kinds = ("scene", "timestamp")

    def __init__(self, readouts: Sequence[Readout]) -> None:
        super().__init__()
        self.readouts = nn.ModuleList(readouts)
        self.width = sum(readout.width for readout in readouts)

    def start(self, out: Tensor) -> State:
        """Return each readout with memory for its dimensions and with its state.

        For timestamps, which are large, that memory is a view of `out`, except where gradients are needed: in-place writes to views of
        one tensor would share one autograd history.
        """
        states, begin = [], 0
        inside = out.dim() == 3 and not torch.is_grad_enabled()
        for readout in self.readouts:
            assert isinstance(readout, Readout)
            place = out.narrow(-1, begin, readout.width) if inside else out.new_empty((*out.shape[:-1], readout.width))
            states.append((readout, place, readout.start(place)))
            begin += readout.width
        return out if inside else None, states

    def add(self, state: State, chunk: Chunk) -> None:
        """Give the chunk to each readout."""
        for readout, _, own in state[1]:
            readout.add(own, chunk)

    def result(self, state: State) -> Tensor:
        """Return the embeddings (..., width), in `out` when the readouts wrote there."""
        out, states = state
        if out is None:
            return torch.cat([readout.result(own) for readout, _, own in states], -1)
        for readout, place, own in states:
            found = readout.result(own)
            if found is not place:
                place.copy_(found)
        return out


def build_readout(parts: Sequence[Part], kind: str, **offered: Any) -> Concatenated:
    """Return the readouts of a config for scenes or timestamps (`kind`); one that maps the readouts before it contains them.

    Raises ValueError that names the readout when one does not fit the encoder, or when there is none.
    """
    if not parts:
        raise ValueError(f"{kind} is an empty list; name at least one readout")
    readouts: List[Readout] = []
    for place, part in enumerate(parts):
        before = {"before": Concatenated(readouts)} if part.kind.maps_before else {}
        try:
            readout = build(part, **offered, **before)
            if not type(readout).__module__.startswith(OURS):
                check_readout(readout, kind, **offered)
        except ValueError as error:
            raise ValueError(f"{kind}.{place}.{part.name}: {error}") from None
        readouts = [readout] if before else [*readouts, readout]
    return Concatenated(readouts)
