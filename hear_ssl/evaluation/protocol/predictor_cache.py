"""Results of trained predictors, kept on disk one by one, so that an interrupted evaluation resumes after the last of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from hear_ssl.files import atomic_write


class Trained(TypedDict):
    """A trained network: the best check's value and epoch, and every score on the test rows, None where it is undefined."""

    validation: float
    epoch: int
    scores: dict[str, float | None]


class PredictorCache:
    """Results of one model on one task, by what each network was trained with.

    A file that is damaged counts as empty; without a path nothing is kept.
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
                    atomic_write(self.path, json.dumps(self.results, indent=1))
        return self.results[key]

    def forget(self) -> None:
        """Remove the file; what is made of the networks is kept elsewhere."""
        if self.path:
            self.path.unlink(missing_ok=True)


def _kept(path: Path) -> dict[str, Trained]:
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    fields = Trained.__required_keys__
    whole = isinstance(results, dict) and all(isinstance(one, dict) and set(one) == fields for one in results.values())
    return results if whole else {}
