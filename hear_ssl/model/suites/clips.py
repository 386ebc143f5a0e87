"""Functions shared by the adapters: load the model and its manifest, and embed clips of different lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence

import torch
from torch import Tensor

from ..embedder import Embedder
from ..hear import load_model
from ..manifest import Manifest, read_manifest

PACKAGE = __name__.rpartition(".suites")[0]
HERE = Path(__file__).resolve().parents[1]
MOST_SAMPLES = 2**25  # encoded in one call: 35 minutes at 16 kHz


def manifest() -> Manifest:
    """Return the manifest of this package. Raises ValueError when it has none."""
    return read_manifest(HERE / "manifest.json")


def loaded(device: "str | torch.device" = "cpu") -> Embedder:
    """Return the model on a device, also when a benchmark has set the meta device as the default."""
    with torch.device("cpu"):
        return load_model().to(torch.device(device))


def embed_by_length(clips: Sequence[Tensor], embed: Callable[[Tensor], Tensor]) -> List[Tensor]:
    """Return the embedding of each clip (n_samples,), computed by a function of (n_sounds, n_samples).

    Clips of equal length are embedded together, because padding would change their embeddings. An empty clip counts as one sample of
    silence.
    """
    found: Dict[int, Tensor] = {}
    whole = [clip if len(clip) else torch.zeros(1) for clip in clips]
    for rows in calls([len(clip) for clip in whole]):
        embeddings = embed(torch.stack([whole[row] for row in rows]))
        found.update({row: embeddings[place] for place, row in enumerate(rows)})
    return [found[row] for row in range(len(clips))]


def calls(lengths: Sequence[int]) -> Iterator[List[int]]:
    """Yield the rows of each call: clips of equal length with at most MOST_SAMPLES in sum, or a single longer clip."""
    rows: Dict[int, List[int]] = {}
    for row, length in enumerate(lengths):
        rows.setdefault(length, []).append(row)
    for length, equal in rows.items():
        most = max(1, MOST_SAMPLES // length)
        for start in range(0, len(equal), most):
            yield equal[start : start + most]
