"""Verification catches every wrong module by the check made for it, and lets a right one pass."""

from __future__ import annotations

import functools

import pytest
import torch

from export.measuring import outputs, timing
from export.measuring.rows import Row, Subject, run_checks
from tests.export.wrong_modules import WRONG, Right, fresh

pytestmark = pytest.mark.slow

CHECKS = outputs.CHECKS + timing.CHECKS


ALONE = ["top_db over the batch", "fails below 100 ms", "gradient kept", "path ignored", "size no int", "drift", "first second missing"]


@functools.cache
def failed(name: str) -> dict[str, Row]:
    """Return the checks that a module fails, by name; '' is the right one."""
    torch.manual_seed(0)
    module = WRONG[name][0] if name else Right()
    subject = Subject(fresh(module), module.load_model(), None)
    return {row.name: row for row in run_checks(subject, CHECKS) if not row.passed}


def test_the_naive_baseline_passes_every_check() -> None:
    assert failed("") == {}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_module_fails_the_check_made_for_it(name: str) -> None:
    check, found = WRONG[name][1], failed(name)
    assert check in found, f"{name} passed {check}; it failed {sorted(found)}"
    assert "\n" not in found[check].measured
    assert len(found) <= 8, f"{name} failed nearly everything: {sorted(found)}"
    assert name not in ALONE or len(found) == 1


def test_the_burst_check_reports_by_how_many_ms_content_is_off() -> None:
    row = failed("content 50 ms early")["bursts lie at their timestamps"]
    assert float(row.measured.split()[0]) == pytest.approx(-50.0, abs=5.0)
