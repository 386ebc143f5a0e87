"""Options that several objectives share, each declared in one place."""

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
    """Declare how many rows of the similarity matrix are held at once."""
    value: int = option(0, "rows of the similarity matrix held at once, for large batches; 0 holds all", "rows", 0)
    return value
