"""The comparison of two revisions: every bit counts, the first difference is named, renamed tensors meet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import same_bits_compare
from tests.benchmarks.same_bits_compare import by_item, line_of, metrics_of
from tests.conftest import ROOT


def test_the_last_bit_of_one_number_is_a_difference() -> None:
    weights = torch.linspace(0.5, 1.0, 6).reshape(2, 3)
    other = weights.clone()
    assert line_of({"a": weights}, {"a": other}) == "same"
    other[1, 0] = torch.nextafter(other[1, 0], torch.tensor(2.0))
    assert line_of({"a": weights}, {"a": other}).startswith("differs: first difference a[3 of 6] is 0.80000")


@pytest.mark.parametrize(
    ("one", "other", "line"),
    [
        (torch.tensor(0.0), torch.tensor(-0.0), "a[0 of 1] is 0.0 and -0.0"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "a is torch.float32 [2] and torch.float64 [2]"),
        (torch.zeros(2), torch.zeros(1, 2), "a is torch.float32 [2] and torch.float32 [1, 2]"),
    ],
)
def test_signs_types_and_shapes_are_differences(one: torch.Tensor, other: torch.Tensor, line: str) -> None:
    assert line in line_of({"a": one}, {"a": other})


def test_equal_bits_of_nan_are_the_same() -> None:
    assert line_of({"a": torch.tensor([float("nan")])}, {"a": torch.tensor([float("nan")])}) == "same"


def test_a_tensor_of_one_side_and_none_at_all_are_differences() -> None:
    assert line_of({"a": torch.zeros(1)}, {}) == "differs: first difference a is only in OLD"
    assert line_of({}, {"a": torch.zeros(1)}) == "differs: first difference a is only in NEW"
    assert line_of({}, {}) == "differs: nothing was computed"


def test_renamed_tensors_meet_and_the_renaming_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_bits_compare, "RENAMED", [("old.", "new.")])
    assert line_of({"old.a": torch.zeros(1), "b": torch.ones(1)}, {"new.a": torch.zeros(1), "b": torch.ones(1)}) == (
        "same (renamed: old.* is new.*)"
    )
    assert line_of({"old.a": torch.zeros(1)}, {"old.a": torch.zeros(1)}) == "same"
    assert line_of({"old.a": torch.zeros(1)}, {"new.a": torch.ones(1)}).startswith("differs: first difference new.a[0 of 1]")


def test_items_are_the_parts_of_names_before_a_colon() -> None:
    one = torch.zeros(1)
    assert by_item("job", {"first:a": one, "first:b": one, "second:a": one}) == {
        "job: first": {"a": one, "b": one},
        "job: second": {"a": one},
    }
    assert by_item("job", {"a": one}) == {"job": {"a": one}}


def test_times_in_the_metrics_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,clips_per_second,data_wait_share,seconds\n1,0.5,3,0.1,2\n2,0.25,4,,3\n")
    found = metrics_of(tmp_path / "metrics.csv")
    assert {name: values.tolist() for name, values in found.items()} == {"metrics.csv step": [1.0, 2.0], "metrics.csv loss": [0.5, 0.25]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "HEAD"], "'nowhere' is no revision"),
        (["HEAD", "HEAD", "--parts", "train,all"], "--parts names 'all'; allowed are train, embeddings, batches, package"),
        (["HEAD", "HEAD", "--steps", "0"], "--steps is 0; give 1 or more"),
        ([".", "HEAD"], "OLD is the working tree"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: list[str], line: str) -> None:
    result = subprocess.run([sys.executable, "-m", "tests.benchmarks.same_bits", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert line in result.stderr
