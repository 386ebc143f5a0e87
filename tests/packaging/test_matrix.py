"""The matrix of Pythons and torches: what it finds here. The downloads themselves are made by hand: make matrix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.packaging.matrix import dotted, find_pythons, numbers


@pytest.mark.slow
def test_each_python_is_found_once_and_is_what_it_is_called() -> None:
    pythons = find_pythons()
    assert all(version >= (3, 8) for version in pythons)
    for version, python in pythons.items():
        shown = subprocess.run([str(python), "--version"], capture_output=True, text=True, check=True).stdout
        assert shown.startswith(f"Python {dotted(version)}.")


def test_versions_are_ordered_as_numbers() -> None:
    assert max(map(numbers, ("2.9.1", "2.11.0", "2.0.1"))) == (2, 11, 0)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["/nonexistent/x.whl"], [__file__, "--weights", "/nonexistent/w"]])
def test_a_missing_file_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hear_ssl.packaging.matrix", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "does not exist" in result.stderr
