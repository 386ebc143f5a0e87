"""Options shared by several objectives."""

from __future__ import annotations

from hear_ssl.model.options import option


def width_option(default: int, meaning: str) -> int:
    """Declare a layer's width."""
    value: int = option(default, meaning, "dimensions", 2, 65536)
    return value


def temperature_option(default: float) -> float:
    """Declare the temperature of a softmax over similarities."""
    value: float = option(default, "temperature of the softmax over similarities", "cosine", 1e-3, 10.0)
    return value


def chunk_option() -> int:
    """Declare the number of rows of the similarity matrix in memory at once."""
    value: int = option(0, "rows of the similarity matrix in memory at once, for large batches; 0: all", "rows", 0)
    return value
