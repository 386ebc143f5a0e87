"""A trained checkpoint, once for all export tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from hear_ssl.training.trainer import fit
from tests.conftest import tiny


@pytest.fixture(scope="session")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three steps and return the run folder."""
    folder = tmp_path_factory.mktemp("export") / "run"
    fit(tiny(shards, folder, "trainer.steps=3"), resume=False)
    return folder
