"""Lists of recordings that a rendered corpus may take sounds from."""

from __future__ import annotations

import json
from pathlib import Path


def listed(corpus: str) -> list[dict[str, str]]:
    """Return the entries of a JSON Lines list of recordings, each with path, license and source; none for an empty name."""
    return [json.loads(line) for line in Path(corpus).read_text().splitlines()] if corpus else []
