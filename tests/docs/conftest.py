"""The documentation site, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.build_site import build


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly and return the folder of its pages; skip where Zensical is not installed."""
    pytest.importorskip("zensical", reason="zensical is not installed; it needs Python 3.11 or newer")
    return build(tmp_path_factory.mktemp("docs")).parent
