"""Cache of baseline scores for later evaluations, by baseline, task, grid, seeds, and the code that they depend on.

The cache is a folder of the user, $HEAR_BASELINES_CACHE or ~/.cache/hear_ssl/baselines, independent of --out.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import hear_ssl.evaluation.protocol
import hear_ssl.model
from hear_ssl.errors import one_line
from hear_ssl.evaluation.foreign.known import known_modules
from hear_ssl.evaluation.model_under_test import BASELINES, ModelUnderTest, module_hash
from hear_ssl.evaluation.protocol.grid import points_hash
from hear_ssl.files import atomic_write, read_json
from hear_ssl.progress import warn

KEPT = {"primary", "score", "scores", "deviation", "folds", "seed_deviation"}  # keys of every result


def cache_folder() -> Path | None:
    """Return the folder of the cache, None for a user without a home folder."""
    chosen = os.environ.get("HEAR_BASELINES_CACHE")
    try:
        return (
            Path(chosen).expanduser()
            if chosen
            else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hear_ssl" / "baselines"
        )
    except RuntimeError:
        return None


class BaselineScores:
    """The cached results of baselines, including modules of `hear-ssl foreign`; other models are not cached."""

    def __init__(self, folder: Path | None, grid: str, seeds: int) -> None:
        code = [module_hash(package) for package in (hear_ssl.model, hear_ssl.evaluation.protocol)]
        self.folder, self.asked = folder, [*code, grid, points_hash(grid), seeds]

    def _file(self, model: ModelUnderTest, task_hash: str) -> Path | None:
        if self.folder is None or model.name not in (*BASELINES, *known_modules()):
            return None
        name = hashlib.sha256(json.dumps([*self.asked, model.key, task_hash]).encode()).hexdigest()[:32]
        return self.folder / f"{name}.json"

    def get(self, model: ModelUnderTest, task_hash: str) -> dict[str, Any] | None:
        """Return the cached result of a baseline on a task, or None; warn about a damaged file."""
        path = self._file(model, task_hash)
        if path is None:
            return None
        try:
            kept = read_json(path)
            result = kept["result"]
            if zlib.crc32(json.dumps(result).encode()) == kept["crc32"] and set(result) >= KEPT:
                return dict(result)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        warn(f"{path} is damaged: the baseline is scored again", aside=True)
        return None

    def put(self, model: ModelUnderTest, task_hash: str, result: dict[str, Any]) -> None:
        """Cache the result of a baseline on a task; warn once about a folder that cannot be written."""
        path = self._file(model, task_hash)
        if path is None:
            return
        try:
            atomic_write(path, json.dumps({"crc32": zlib.crc32(json.dumps(result).encode()), "result": result}))
        except OSError as error:
            self.folder = None
            warn(f"baselines are not kept for later evaluations: {one_line(error)}", aside=True)
