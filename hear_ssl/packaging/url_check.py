"""Check that weights can be downloaded from their public URL, by downloading them as load_model() does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hear_ssl.model.download import Unreachable, download_weights


def check_published(url: str, sha256: str, size: int, mend: str) -> None:
    """Raise ValueError, with the remedy `mend`, when the URL does not answer or serves bytes with another SHA-256."""
    with tempfile.TemporaryDirectory(prefix="hear-published-") as scratch:
        try:
            download_weights(url, sha256, size, Path(scratch) / "weights")
        except (ValueError, Unreachable) as error:
            raise ValueError(f"the weights are not published: {' '.join(str(error).split())}; {mend}") from None
