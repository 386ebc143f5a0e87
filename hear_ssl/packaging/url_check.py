"""Whether the weights can be had from their public URL, found out by fetching them as load_model() does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hear_ssl.model.download import Unreachable, download_weights


def check_published(url: str, sha256: str, size: int, mend: str) -> None:
    """Raise ValueError, with `mend` as the way out, when the URL does not answer or serves bytes of another SHA-256."""
    with tempfile.TemporaryDirectory(prefix="hear-published-") as scratch:
        try:
            download_weights(url, sha256, size, Path(scratch) / "weights")
        except (ValueError, Unreachable) as error:
            raise ValueError(f"the weights are not published: {' '.join(str(error).split())}; {mend}") from None
