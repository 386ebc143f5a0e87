"""List the sounds that are most similar to a recording, by the cosine of their embeddings.

python examples/find_similar_sounds.py MODEL QUERY.wav FILE FILE ...

MODEL: a run, a checkpoint, the name of an installed package, or an address of weights. Files may have any format and sample rate.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hear_ssl


def nearest(model: str, query: str, files: Sequence[str], count: int = 5) -> list[tuple[float, str]]:
    """Return cosine and name of the files nearest to the query, the nearest first. Raises ValueError when no file is readable."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "embeddings.npz"
        hear_ssl.load(model).embed_files([query, *files], archive)
        with np.load(archive) as loaded:
            names, embeddings = loaded["files"], loaded["scene_embeddings"]
    embeddings = embeddings - embeddings.mean(0)  # a component common to all files would make every cosine large
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = embeddings[1:] @ embeddings[0]
    return [(float(cosines[place]), str(names[place + 1])) for place in np.argsort(-cosines)[:count]]


if __name__ == "__main__":
    for cosine, name in nearest(sys.argv[1], sys.argv[2], sys.argv[3:]):
        print(f"{cosine:.3f}  {name}")
