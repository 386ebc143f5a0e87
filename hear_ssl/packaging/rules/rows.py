"""The rows of the verification table, the input of the checks, and the runner of the checks.

A broken rule can make others meaningless: if embeddings are NaN, timestamps cannot be checked. A check therefore names the checks that it
requires, and is not measured when one of them fails, so that each fault appears in its own row.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor


@dataclass
class RuleResult:
    """A rule, its measurement, whether it holds (None: not measured), and the reason for the rule and its tolerance."""

    name: str
    rule: str
    measured: str
    passed: Optional[bool]
    reason: str = ""


@dataclass
class Submission:
    """The module under test, its model, and the given weights file (None: the module finds its own)."""

    module: Any
    model: Any
    weights: Optional[str]

    def scene(self, audio: Tensor) -> Tensor:
        """Return scene embeddings of a copy of the audio, which the module may change, without gradient."""
        embeddings: Tensor = self.module.get_scene_embeddings(audio.clone(), self.model)
        return embeddings.detach()

    def timestamps(self, audio: Tensor) -> Tuple[Tensor, Tensor]:
        """Return timestamp embeddings and timestamps of a copy of the audio, without gradient."""
        embeddings, timestamps_ms = self.module.get_timestamp_embeddings(audio.clone(), self.model)
        return embeddings.detach(), timestamps_ms.detach()

    def fresh(self) -> "Submission":
        """Return the same module with a newly loaded model."""
        return Submission(self.module, self.module.load_model(self.weights) if self.weights else self.module.load_model(), self.weights)

    def noise(self, seconds: float, batch: int = 1, seed: int = 0) -> Tensor:
        """Return white noise (batch, seconds * sample_rate) in [-1, 1] with an odd number of samples, which no usual hop divides."""
        samples = round(seconds * self.model.sample_rate) | 1
        return torch.rand(batch, samples, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


Measure = Callable[[Submission], RuleResult]
END = RuleResult("end", "", "reached", True)  # the last line of the rows' file


@dataclass(frozen=True)
class Check:
    """A measurement, and the measurements that it requires."""

    measure: Measure
    needs: Tuple[Measure, ...] = ()


def name_of(measure: Measure) -> str:
    """Return the name of a check's row."""
    return measure.__name__.replace("_", " ")


def run_checks(submission: Submission, checks: Sequence[Check], tell: Callable[[RuleResult], None] = lambda row: None) -> List[RuleResult]:
    """Run the checks in order and return their rows; a check that raises gives a failed row with the error.

    tell: called twice with each row, before it is measured with an empty measurement, and afterwards.
    """
    rows: List[RuleResult] = []
    for check in checks:
        name, (rule, _, rest) = name_of(check.measure), (check.measure.__doc__ or "").strip().partition("\n")
        reason = " ".join(rest.split())
        tell(RuleResult(name, rule, "", None, reason))
        rows.append(RuleResult(name, rule, *_measured(submission, check, rows), reason))
        tell(rows[-1])
    return rows


def _measured(submission: Submission, check: Check, rows: Sequence[RuleResult]) -> Tuple[str, Optional[bool]]:
    wanted = [name_of(need) for need in check.needs]
    missing = next((row.name for row in rows if row.name in wanted and not row.passed), None)
    if missing:
        return f"not measured: it needs '{missing}'", None
    try:
        row = check.measure(submission)
        return row.measured, row.passed
    except Exception as error:  # any error of the module under test is the measurement
        return f"raised {type(error).__name__}: {' '.join(str(error).split())[:160]}", False


def found(measured: str, passed: Optional[bool]) -> RuleResult:
    """Return a row without name, rule and reason, which the runner adds from the check."""
    return RuleResult("", "", measured, None if passed is None else bool(passed))


def write_result(path: Path, row: RuleResult) -> None:
    """Append a row to a file immediately, so that a killed process leaves its rows."""
    with open(str(path), "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_results(path: Path, ended: str) -> List[RuleResult]:
    """Return the rows of a file; if the last line is missing, the running check failed, and its row states how the process ended."""
    rows: List[RuleResult] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = RuleResult(**json.loads(line))
        except (ValueError, TypeError, RecursionError):  # the module under test can write to the file as well
            return [*rows, RuleResult("measurement", "Every rule can be measured.", "its results were overwritten", False)]
        if rows and rows[-1].name == row.name:
            rows.pop()
        rows.append(row)
    if rows and rows[-1] == END:
        return rows[:-1]
    if rows and not rows[-1].measured:
        return [*rows[:-1], RuleResult(rows[-1].name, rows[-1].rule, ended, False, rows[-1].reason)]
    return [*rows, RuleResult("measurement", "Every rule can be measured.", ended, False)]
