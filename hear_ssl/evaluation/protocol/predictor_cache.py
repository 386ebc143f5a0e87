"""Cache of the results of trained predictors, written one by one, so that an interrupted evaluation resumes after the last one."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from hear_ssl.files import atomic_write, read_json
from hear_ssl.progress import warn


class Trained(TypedDict):
    """The result of a trained network: value and epoch of the best check, and all scores on the test rows, None if undefined."""

    validation: float
    epoch: int
    scores: dict[str, float | None]


class PredictorCache:
    """Results of one model on one task, by the settings of each network.

    A damaged file counts as empty and causes a warning; without a path nothing is stored.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.lock = path, threading.Lock()
        self.results: dict[str, Trained] = _kept(path) if path else {}

    def result(self, settings: dict[str, Any], fold: int, seed: int, train: Callable[[], Trained]) -> Trained:
        """Return the cached result of a network, or call `train` and cache its result."""
        key = json.dumps([settings, fold, seed], sort_keys=True)
        if key not in self.results:
            trained = train()
            with self.lock:
                self.results[key] = trained
                if self.path:
                    content = json.dumps(self.results)
                    atomic_write(self.path, json.dumps({"crc32": zlib.crc32(content.encode()), "results": self.results}, indent=1))
        return self.results[key]

    def forget(self) -> None:
        """Remove the file, once the scores made from the networks are stored elsewhere."""
        if self.path:
            self.path.unlink(missing_ok=True)


def _kept(path: Path) -> dict[str, Trained]:
    try:
        kept = read_json(path)
        results, crc = kept["results"], kept["crc32"]
        if zlib.crc32(json.dumps(results).encode()) == crc:
            return dict(results)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    warn(f"{path} is damaged or of another version: its networks are trained again", aside=True)
    return {}
