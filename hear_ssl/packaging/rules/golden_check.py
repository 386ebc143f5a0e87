"""Compare the golden tensors in the package with the embeddings in this environment."""

from __future__ import annotations

import importlib
from pathlib import Path

from .independence import difference
from .rows import Check, RuleResult, Submission, found

TOLERANCE = 1e-3  # other torch versions and processors sum in another order


def golden_tensors(submission: Submission) -> RuleResult:
    """Embeddings equal those computed at export."""
    folder = Path(submission.module.__file__).parent
    if not (folder / "golden.safetensors").is_file():
        return found("not measured: the package carries none", None)
    golden = importlib.import_module(submission.module.__name__ + ".weights").read_tensors(folder / "golden.safetensors")
    embeddings, timestamps_ms = submission.timestamps(golden["audio"])
    apart = max(
        difference(golden["scene_embeddings"], submission.scene(golden["audio"])),
        difference(golden["timestamp_embeddings"], embeddings),
        difference(golden["timestamps_ms"], timestamps_ms),
    )
    return found(f"{apart:.2g} apart (relative), tolerance {TOLERANCE:g}", apart <= TOLERANCE)


CHECKS = [Check(golden_tensors)]
