"""python -m tests.training.fit_dataset RUN STEPS resume|new: a run on a dataset, for tests that start it in several processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from hear_ssl.training.settings import Config
from hear_ssl.training.trainer import fit
from tests.conftest import tiny
from tests.data.stream.some_datasets import Tones


def config(run: Path, *overrides: str) -> Config:
    """Return a small config without shards."""
    whole = tiny(Path(), run, *overrides)
    return replace(whole, data=replace(whole.data, shards=[]))


if __name__ == "__main__":
    still = "encoder.audio_ntt.dropout=0"
    sys.exit(fit(config(Path(sys.argv[1]), still, f"trainer.steps={sys.argv[2]}"), resume=sys.argv[3] == "resume", dataset=Tones(20)))
