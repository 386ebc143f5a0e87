"""Results of trained predictors, kept on disk one by one, so that an interrupted evaluation resumes after the last of them."""

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
    """A trained network: the best check's value and epoch, and every score on the test rows, None where it is undefined."""

    validation: float
    epoch: int
    scores: dict[str, float | None]


class PredictorCache:
    """Results of one model on one task, by what each network was trained with.

    A file that is damaged, down to one digit, counts as empty and is named on stderr; without a path nothing is kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.lock = path, threading.Lock()
        self.results: dict[str, Trained] = _kept(path) if path else {}

    def result(self, settings: dict[str, Any], fold: int, seed: int, train: Callable[[], Trained]) -> Trained:
        """Return the result of a network, of `train` when it is not kept yet."""
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
        """Remove the file; what is made of the networks is kept elsewhere."""
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
