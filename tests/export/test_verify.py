"""Verification as a user runs it, in a clean environment: a right wheel passes every row, a broken one does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from export.clean_env import make_environment, pip
from export.package import Request, package
from export.verify import install_row
from export.wheel_rules import wheel_rows
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = run / "checkpoints" / "last.ckpt"
    request = Request(checkpoint, "hear_verify", "0.1.0", "https://example.com/w.safetensors", False, False, {}, True)
    return package(request, tmp_path_factory.mktemp("dist"))


def weights_of(wheel: Path) -> Path:
    return wheel.parent / "hear_verify-0.1.0.safetensors"


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "export/verify.py"), *arguments], capture_output=True, text=True, check=False)


def rows(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(result.stdout)}


@pytest.mark.slow
def test_a_right_wheel_passes_every_row(wheel: Path) -> None:
    result = verify(str(wheel), "--weights", str(weights_of(wheel)), "--json")
    found = rows(result)
    assert [name for name, row in found.items() if row["passed"] is False] == []
    assert result.returncode == 0
    assert len(found) > 25
    assert "GB" in found["four times five minutes"]["measured"]


@pytest.mark.slow
def test_the_naive_baseline_passes_as_an_importable_module(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "export" / "naive.py", tmp_path / "hear_naive.py")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "export/verify.py"), "hear_naive", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not [row for row in rows(result).values() if row["passed"] is False]
    assert rows(result)["official validator"]["measured"] == "Looks good!"


def test_a_wheel_that_no_environment_can_install_is_a_row(wheel: Path, tmp_path: Path) -> None:
    info = "hear_verify-0.1.0.dist-info"
    metadata = zipfile.ZipFile(wheel).read(f"{info}/METADATA").replace(b"torch>=2.0", b"torch==1.7")
    broken = changed(wheel, tmp_path, f"{info}/METADATA", metadata)
    python = make_environment(tmp_path / "place")
    row = install_row(python, broken, alone=True)
    assert not row.passed
    assert row.measured.startswith("pip refuses: ERROR: Cannot install hear-verify")


@pytest.mark.slow
def test_the_source_tree_installs_from_a_path_with_spaces(wheel: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "a path with spaces"
    (wheel.parent / "hear_verify").rename(spaced)
    try:
        result = verify(str(spaced), "--weights", str(weights_of(wheel)), "--json")
    finally:
        spaced.rename(wheel.parent / "hear_verify")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_pip_installs_the_tree_from_a_path_with_spaces_and_from_a_git_clone(wheel: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "a path with spaces" / "hear_verify"
    shutil.copytree(wheel.parent / "hear_verify", spaced)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "Export"]):
        subprocess.run(["git", "-C", str(spaced), *arguments], check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(spaced), str(clone)], check=True)
    code = f"import hear_verify as h, torch; m = h.load_model({str(wheel.parent / 'hear_verify-0.1.0.safetensors')!r})\n"
    code += "print(h.__file__, tuple(h.get_scene_embeddings(torch.zeros(1, 16000), m).shape) == (1, m.scene_embedding_size))"
    for number, source in enumerate((spaced, clone)):
        python = make_environment(tmp_path / f"place {number}")
        pip(python, ["install", "--no-deps", "--no-build-isolation", str(source)], f"{source} does not install")
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]}
        )
        place, _, right = done.stdout.strip().rpartition(" ")
        assert right == "True"
        assert place.startswith(str(tmp_path / f"place {number}"))


def changed(wheel: Path, folder: Path, member: str, content: bytes | None) -> Path:
    """Return a copy of the wheel with a member replaced or left out."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
            elif content is not None:
                new.writestr(name, content)
    return copy


def test_a_wheel_without_one_of_its_files_breaks_a_rule(wheel: Path, tmp_path: Path) -> None:
    assert all(row.passed for row in wheel_rows(wheel, None))
    for member, content in (("hear_verify/__init__.py", None), ("hear_verify/hear.py", b"import numpy\n")):
        broken = changed(wheel, tmp_path, member, content)
        assert not all(row.passed for row in wheel_rows(broken, None))


def test_an_address_that_nothing_was_fetched_from_is_not_called_public(wheel: Path) -> None:
    fetched, at_hand = ({row.name: row for row in wheel_rows(wheel, weights)}["weights URL"] for weights in (None, weights_of(wheel)))
    assert fetched.passed
    assert "load_model() fetches them" in fetched.measured  # and its row fails where it cannot
    assert at_hand.passed is None
    assert "not fetched" in at_hand.measured


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("/nonexistent/x.whl",), "/nonexistent/x.whl"),
        (("hear_no_such_module",), "hear_no_such_module"),
        (("/etc/hostname",), "/etc/hostname"),
    ],
)
def test_nothing_to_verify_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = verify(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert line in result.stderr
