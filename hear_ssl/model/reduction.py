"""A linear map of an embedding onto fewer dimensions, which `examples/reference/whiten.py` fits and the wheel ships.

The parts of an embedding (layers, encoders, bands) are correlated, and most of their variance lies in few directions. The map keeps
principal components: first of each part, then of all parts together, so that its outputs are uncorrelated.
"""

from __future__ import annotations

from functools import partial
from operator import gt
from typing import List, Sequence

import torch
from torch import Tensor, nn


class Reduction(nn.Module):
    """Parts of an embedding, each mapped onto some numbers, and these together onto `numbers`.

    Two maps in place of one hold a fraction of its weights.
    """

    def __init__(self, widths: Sequence[int], ranks: Sequence[int], numbers: int) -> None:
        """Build with random weights for parts of so many `widths`. Raises ValueError when `ranks` do not fit them."""
        super().__init__()
        if len(ranks) != len(widths) or any(map(gt, ranks, widths)) or numbers > sum(ranks):
            raise ValueError(
                f"a reduction of {list(ranks)} numbers onto {numbers} does not fit this embedding, whose parts have {list(widths)}; "
                "fit it with examples/reference/whiten.py when all else is chosen, or leave it out with an empty reduction"
            )
        self.widths: List[int] = list(widths)
        self.parts = nn.ModuleList(map(partial(nn.Linear, bias=False), widths, ranks))
        self.joint = nn.Linear(sum(ranks), numbers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return (..., numbers) of embeddings (..., sum of widths)."""
        kept = [self.parts[place](part) for place, part in enumerate(torch.split(embeddings, self.widths, -1))]
        projected: Tensor = self.joint(torch.cat(kept, -1))
        return projected
