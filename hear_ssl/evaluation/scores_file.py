"""The record of an evaluation, scores.json: read and write it, and check that it is current and for which weights."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from hear_ssl.evaluation.model_under_test import BASELINES, LOG_MEL, UNTRAINED, ModelUnderTest, model_name
from hear_ssl.evaluation.protocol.grid import points_hash
from hear_ssl.files import atomic_write, read_json, sha256_of
from hear_ssl.folder_lock import file_lock
from hear_ssl.progress import warn

OTHERS = "others"  # key for records of other grids and seed counts
LOCK = ".scores.lock"
LOCKED = "wait for it to end, or give another --out"
LOCK_SECONDS = 60.0  # a result is written in milliseconds
WEIGHTS = ", or give the file with --weights FILE"


class ScoresFile:
    """A scores.json to which several evaluations may write at once: each result is added to the current content of the file.

    The file is the record of the last grid, its points and seeds; its key `others` is the list of records of other grids and seeds.
    """

    def __init__(self, path: Path, grid: str, seeds: int) -> None:
        self.path, self.asked = path, {"grid": grid, "points": points_hash(grid), "seeds": seeds}

    def record(self, held: bool = False) -> dict[str, Any]:
        """Return the record of this grid and these seeds, or an empty one.

        A file that is damaged or of another version counts as missing; if the lock is `held`, it is renamed with a warning.
        """
        try:
            record = read_json(self.path)
        except FileNotFoundError:
            record = None
        except ValueError as error:
            self._set_aside(str(error), held)
            record = None
        if record is not None and not is_record(record):
            self._set_aside(f"{self.path} is of another version", held)
            record = None
        kept = [] if record is None else [{name: value for name, value in record.items() if name != OTHERS}, *record.get(OTHERS, [])]
        fitting = [one for one in kept if all(one[name] == value for name, value in self.asked.items())]
        others = [one for one in kept if one not in fitting]
        found = fitting[0] if fitting else {**self.asked, "tasks": {}, "faults": {}}
        return {**found, OTHERS: others} if others else found

    def put(self, task: str, results: dict[str, dict[str, Any]], faults: dict[str, str]) -> None:
        """Write the results or faults of models on a task; they replace the previous ones of these models."""
        with file_lock(self.path.with_name(LOCK), LOCKED, LOCK_SECONDS):
            record = self.record(held=True)
            for kind, new in (("tasks", results), ("faults", faults)):
                known = record[kind].setdefault(task, {})
                for name in (*results, *faults):
                    known.pop(name, None)
                known.update(new)
            atomic_write(self.path, json.dumps(record, indent=1))

    def _set_aside(self, reason: str, held: bool) -> None:
        if not held:
            return
        name = next(name for number in count(1) if not (name := self.path.with_name(f"scores-damaged-{number}.json")).exists())
        self.path.rename(name)
        warn(f"{reason}: kept as {name}, its scores are computed again", aside=True)


def is_record(record: Any) -> bool:
    """Return whether the content of scores.json is a record in the form of this version."""
    if not isinstance(record, dict) or not {"grid", "points", "seeds", "tasks", "faults"} <= set(record):
        return False
    parts = record["tasks"], record["faults"]
    whole = all(isinstance(part, dict) and all(isinstance(of_task, dict) for of_task in part.values()) for part in parts)
    whole = whole and all(isinstance(result, dict) for of_task in record["tasks"].values() for result in of_task.values())
    others = record.get(OTHERS, [])
    return whole and isinstance(others, list) and all(is_record(other) for other in others)


def asked_for(record: dict[str, Any], tasks: list[str], names: list[str]) -> dict[str, Any]:
    """Return the part of a record for these tasks and models."""
    parts = {kind: {task: record[kind].get(task, {}) for task in tasks} for kind in ("tasks", "faults")}
    chosen = {kind: {task: {n: found[n] for n in names if n in found} for task, found in part.items()} for kind, part in parts.items()}
    return record | chosen


def read_scores(scores: Path) -> dict[str, Any]:
    """Return the record of a folder of scores. Raises ValueError when there is none."""
    try:
        record: dict[str, Any] = read_json(scores / "scores.json")
    except ValueError as error:
        raise ValueError(f"{error}; make it again with hear-ssl evaluate --out {scores}") from None
    except OSError:
        raise ValueError(f"{scores} holds no scores.json; make one with hear-ssl evaluate --out {scores}") from None
    if not is_record(record):
        raise ValueError(f"{scores}/scores.json is of another version; make it again with hear-ssl evaluate --out {scores}")
    return record


def scored_weights(record: dict[str, Any], module: str) -> str:
    """Return the weights file with which a module was scored, '' for its own. Raises ValueError when there were several."""
    kept = {name: result.get("weights", {}).get("place", "") for results in record["tasks"].values() for name, result in results.items()}
    files = [place for name, place in kept.items() if place and name == model_name(module, place)]
    if model_name(module) in kept or not files:
        return ""
    if len(files) > 1:
        raise ValueError(f"there are scores of {module} with {' and with '.join(files)}; choose with --weights FILE")
    return str(files[0])


def check_scored(record: dict[str, Any], name: str, weights: str) -> None:
    """Raise ValueError when there are no scores of a model, or its weights file is missing or has changed."""
    known = dict.fromkeys(known for kind in ("tasks", "faults") for found in record[kind].values() for known in found)
    if name not in known:
        raise ValueError(f"there are no scores of {name}; there are scores of {', '.join(known)} (--weights FILE goes with a module)")
    kept = [results[name].get("weights", {}) for results in record["tasks"].values() if name in results]
    for sha256, file in {(one["sha256"], Path(weights or one["place"])) for one in kept if one.get("sha256")}:
        if not file.is_file():
            raise ValueError(f"the scores of {name} are of {file}, which is not there; put it back" + WEIGHTS * bool(weights))
        if sha256_of(file) != sha256:
            raise ValueError(f"the scores of {name} are of other weights than {file} has now; evaluate again" + WEIGHTS * bool(weights))


def check_key(record: dict[str, Any], model: ModelUnderTest) -> None:
    """Raise ValueError when the scores are of other weights than the loaded ones."""
    if any(found[model.name]["key"] != model.key for found in record["tasks"].values() if model.name in found):
        raise ValueError(f"the scores of {model.name} are of other weights than it has now, or of an earlier version; evaluate again")


def python_of(record: dict[str, Any], name: str) -> str:
    """Return the interpreter of the environment in which a module was evaluated, '' for this one."""
    found = [results[name].get("weights", {}).get("python", "") for results in record["tasks"].values() if name in results]
    return str(next(iter(found), ""))


def check_python(record: dict[str, Any], name: str, python: str) -> None:
    """Raise ValueError when a module was evaluated in another environment and none is given: a record must not choose programs."""
    if python_of(record, name) and not python:
        raise ValueError(f"the scores of {name} were made in another environment; give it with --python {python_of(record, name)}")


def command_of(record: dict[str, Any], module: str, weights: str, tasks: str, scores: Path) -> str:
    """Return the command line that computes these scores, without other weights of the module."""
    names = [name for results in record["tasks"].values() for name in results]
    others = dict.fromkeys(name for name in names if name not in (model_name(module, weights), *BASELINES) and not name.endswith(")"))
    words = ["hear-ssl evaluate --module", module, *([f"--weights {weights}"] if weights else [])]
    python = python_of(record, model_name(module, weights))
    words += [f"--python {python}"] if python else []
    words += [*(f"--compare {name}" for name in others), f"--tasks {tasks} --out {scores}"]
    words += [f"--grid {record['grid']}"] + ([f"--seeds {record['seeds']}"] if record["seeds"] > 1 else [])
    if LOG_MEL not in names:
        words.append(f"--baselines {UNTRAINED if UNTRAINED in names else 'none'}")
    return " ".join(words)
