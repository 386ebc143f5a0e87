"""A linear map of an embedding to fewer dimensions with fitted weights, such as principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..options import option
from .base import Chunk, Readout


class Linear(Readout):
    """Map the embedding of all readouts before it in the list to `dims` dimensions.

    Its weights are random until `hear-ssl package --linear` fits them, for example as principal components.
    """

    @dataclass(frozen=True)
    class Options:
        """The size of the result."""

        dims: int = option(256, "dimensions of the embedding", "dimensions", 1, 65536)

    kinds = ("scene", "timestamp")
    maps_before = True

    def __init__(self, before: Readout, dims: int = Options.dims) -> None:
        """Raises ValueError when it is the first of the list."""
        super().__init__()
        if not before.width:
            raise ValueError("it maps the readouts before it, and there is none; name one before it in the list, or leave it out")
        self.before, self.width = before, dims
        self.map = nn.Linear(before.width, dims)

    def start(self, out: Tensor) -> Any:
        """Return the state of the readouts before it, which have memory of their own."""
        return self.before.start(out.new_empty((*out.shape[:-1], self.before.width)))

    def add(self, state: Any, chunk: Chunk) -> None:
        """Give the chunk to the readouts before it."""
        self.before.add(state, chunk)

    def result(self, state: Any) -> Tensor:
        """Return the mapped embedding (..., dims)."""
        mapped: Tensor = self.map(self.before.result(state))
        return mapped
