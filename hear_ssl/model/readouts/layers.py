"""The option `layers`: which layers of the encoder a readout uses."""

from __future__ import annotations

from typing import List, Sequence

import torch
from torch import Tensor

from ..options import option


def layers_option(default: str = "all") -> str:
    """Declare the option `layers` of a readout."""
    declared: str = option(default, "tokens of the last layer, of all layers (concatenated), their mean, or of named layers such as 0,2")
    return declared


class Layers:
    """The layers selected by an option `layers`."""

    def __init__(self, asked: str, layer_dims: Sequence[int], layer_names: Sequence[str] = ()) -> None:
        """Select from the layers of an encoder. Raises ValueError when there is no such layer, or no mean since widths differ."""
        names = list(layer_names) or [str(place) for place in range(len(layer_dims))]
        chosen = {"all": names, "mean": names, "last": names[-1:]}.get(asked) or [name.strip() for name in asked.split(",")]
        for name in chosen:
            if name not in names:
                raise ValueError(
                    f"layers is {asked!r}, but the encoder has no layer {name!r}; allowed are all, last, mean and {', '.join(names)}"
                )
        self.places, self.averaged = [names.index(name) for name in chosen], asked == "mean"
        self.dims = [layer_dims[place] for place in self.places]
        if self.averaged:
            if len(set(self.dims)) > 1:
                raise ValueError(
                    f"layers: mean needs layers of one width; these are {', '.join(map(str, self.dims))} wide: use all or last"
                )
            self.dims = self.dims[:1]
        self.width = sum(self.dims)

    def of(self, layers: List[Tensor]) -> List[Tensor]:
        """Return the tokens of the chosen layers, or their mean; each (batch, tokens, dim)."""
        chosen = [layers[place] for place in self.places]
        return [torch.stack(chosen).mean(0)] if self.averaged else chosen

    def write(self, layers: List[Tensor], rows: Tensor) -> None:
        """Write the chosen layers' tokens into rows (batch, tokens, width)."""
        begin = 0
        for layer in self.of(layers):
            rows[:, :, begin : begin + layer.shape[-1]] = layer
            begin += layer.shape[-1]
