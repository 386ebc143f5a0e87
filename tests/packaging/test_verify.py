"""Verification as a user runs it, in a clean environment: a right wheel passes every row, a broken one does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.evaluation.foreign.model import load_foreign, untrained_like
from hear_ssl.evaluation.model_under_test import load_model_under_test, manifest_at
from hear_ssl.packaging.clean_environment import make_environment, pip
from hear_ssl.packaging.official_validator import validator_row
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.verify import install_row, measured_rows, settled
from hear_ssl.packaging.verify import verify as verify_rows
from hear_ssl.packaging.wheel_rules import requirements_row, wheel_rows
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = run / "checkpoints" / "last.ckpt"
    request = PackageRequest(checkpoint, "hear_verify", "0.1.0", "https://example.com/w.safetensors", False, False, {}, True)
    return package(request, tmp_path_factory.mktemp("dist"))


def weights_of(wheel: Path) -> Path:
    return wheel.parent / "hear_verify-0.1.0.safetensors"


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "export/verify.py"), *arguments], capture_output=True, text=True, check=False)


def rows(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_a_right_wheel_passes_every_row(wheel: Path) -> None:
    result = verify(str(wheel), "--weights", str(weights_of(wheel)), "--json")
    found = rows(result)
    assert [name for name, row in found.items() if row["passed"] is False] == []
    assert result.returncode == 0
    assert len(found) > 25
    assert "GB" in found["four times five minutes"]["measured"]


def test_the_naive_baseline_passes_as_an_importable_module(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "packaging" / "naive.py", tmp_path / "hear_naive.py")
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


def test_the_source_tree_installs_from_a_path_with_spaces(wheel: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "a path with spaces"
    (wheel.parent / "hear_verify").rename(spaced)
    try:
        result = verify(str(spaced), "--weights", str(weights_of(wheel)), "--json")
    finally:
        spaced.rename(wheel.parent / "hear_verify")
    assert result.returncode == 0, result.stdout + result.stderr


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


@pytest.mark.parametrize(
    ("requirement", "alone"),
    [
        ('numpy ; extra == "embed"', True),
        ("numpy ; (python_version > '3.6') and extra == 'embed'", True),
        ('numpy ; extra == "embed" or python_version > "3.6"', False),
        ('numpy ; python_version < "3.6"', False),
        ("numpy", False),
    ],
)
def test_what_only_an_extra_asks_for_is_no_requirement(requirement: str, alone: bool) -> None:
    assert requirements_row(["torch (>=2.0)", requirement]).passed is alone


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
    assert all(row.passed is not False for row in wheel_rows(wheel, None))
    for member, content in (("hear_verify/__init__.py", None), ("hear_verify/hear.py", b"import numpy\n")):
        broken = changed(wheel, tmp_path, member, content)
        assert any(row.passed is False for row in wheel_rows(broken, None))


def test_an_address_counts_as_public_once_load_model_has_fetched_from_it(wheel: Path) -> None:
    waiting, at_hand = (
        [row for row in wheel_rows(wheel, weights) if row.name in ("weights URL", "weights hash")] for weights in (None, weights_of(wheel))
    )
    assert [row.passed for row in waiting] == [None, None]
    assert [row.passed for row in at_hand] == [None, True]
    assert "not fetched" in at_hand[0].measured
    for fetched in (True, False):
        assert [settled(row, fetched).passed for row in waiting] == [fetched, fetched]
        assert [settled(row, fetched) for row in at_hand] == at_hand


def test_weights_in_the_users_cache_do_not_stand_in_for_a_dead_url(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(wheel)
    (tmp_path / f"{hashlib.sha256(weights.read_bytes()).hexdigest()}.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    [row] = measured_rows(Path(sys.executable), "hear_verify", None, scratch, [str(wheel.parent / "hear_verify")], memory="none")
    assert (row.name, row.passed) == ("import and load", False)
    assert "cannot download the weights" in row.measured


def test_a_validator_that_cannot_be_had_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    row = validator_row(Path(sys.executable), "hear_verify", None, tmp_path, [])
    assert row.passed is None
    assert row.measured.startswith("not measured: cannot install the official validator")


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


def test_a_module_in_an_environment_of_its_own_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "tests" / "packaging" / "naive.py", tmp_path / "hear_naive.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = verify_rows(Path("hear_naive"), None, memory="none", elsewhere=sys.executable)
    assert [row.name for row in found if row.passed is False] == []
    assert next(row for row in found if row.name == "official validator").measured == "Looks good!"
    assert len(found) > 30


def test_a_wheel_in_another_environment_gives_the_same_bits(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    weights = str(weights_of(wheel))
    here = load_model_under_test("hear_verify", weights)
    there = load_foreign("hear_verify", weights, sys.executable, tmp_path / "log")
    assert there.weights.items() >= here.weights.items()
    assert (there.threadsafe, there.manifest) == (here.threadsafe, manifest_at(tmp_path / "hear_verify"))
    audio = torch.rand(3, 20000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(there.scene(audio), here.scene(audio))
    for found, expected in zip(there.timestamps(audio), here.timestamps(audio), strict=True):
        assert torch.equal(found, expected)
    untrained_here, untrained_there = untrained_like(here, "hear_verify"), untrained_like(there, "hear_verify")
    assert untrained_here is not None
    assert untrained_there is not None
    assert untrained_here.key == untrained_there.key
