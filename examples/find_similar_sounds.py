"""List the sounds that are most similar to a recording, by the cosine of their embeddings.

python examples/find_similar_sounds.py MODEL QUERY.wav FILE FILE ...

MODEL: a run, a checkpoint, the name of an installed package, or an address of weights. FILE: a sound of any format and sample rate, or
a folder of them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

import hear_ssl


def nearest(model: str, query: str, files: Sequence[str], count: int = 5) -> list[tuple[float, str]]:
    """Return cosine and name of the files nearest to the query, the nearest first. Raises ValueError for an unreadable query."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "embeddings.npz"
        with redirect_stdout(None):  # the archive is of no interest to the reader
            hear_ssl.load(model).embed_files([query, *files], archive)
        with np.load(archive) as loaded:
            names, embeddings = loaded["files"], loaded["scene_embeddings"]
    if str(names[0]) != query:
        raise ValueError(f"{query} cannot be embedded; name one sound file")
    embeddings = embeddings - embeddings.mean(0)  # a component common to all files would make every cosine large
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = embeddings[1:] @ embeddings[0]
    return [(float(cosines[nearest]), str(names[nearest + 1])) for nearest in np.argsort(-cosines)[:count]]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    for cosine, name in nearest(sys.argv[1], sys.argv[2], sys.argv[3:]):
        print(f"{cosine:.3f}  {name}")
