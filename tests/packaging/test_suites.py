"""The adapters for other benchmarks: embeddings equal the HEAR API's, a wrong adapter is caught, X-ARES's own checker passes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hear_ssl.model.suites.clips import calls, embed_by_length
from hear_ssl.packaging.package import PackageRequest, package
from hear_ssl.packaging.suites import HERE, installs, suite_rows
from tests.conftest import ROOT

NAME = "hear_suites"


@pytest.fixture(scope="module")
def wheel(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package the trained run without weights in the wheel."""
    checkpoint = run / "checkpoints" / "last.ckpt"
    request = PackageRequest(checkpoint, NAME, "0.1.0", "https://example.com/w.safetensors", False, False, {}, True)
    return package(request, tmp_path_factory.mktemp("dist"))


@pytest.fixture
def tree(wheel: Path, tmp_path: Path) -> Path:
    """Return a copy of the exported source tree with the weights inside the package."""
    weights = (wheel.parent / f"{NAME}-0.1.0.safetensors").read_bytes()
    for file in (wheel.parent / NAME).rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(wheel.parent / NAME)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    record = json.loads((tmp_path / NAME / "manifest.json").read_text())["weights"]
    (tmp_path / NAME / record["file"]).write_bytes(weights)
    return tmp_path


def check(benchmark: str, tree: Path) -> dict[str, object]:
    """Run the check of a benchmark on a source tree."""
    command = [sys.executable, str(HERE / "suite_checks.py"), benchmark, NAME]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tree)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_clips_of_one_length_share_a_call_and_keep_their_order() -> None:
    seen: list[tuple[int, ...]] = []

    def embed(audio: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(audio.shape))
        return audio.sum(dim=1, keepdim=True)

    clips = [torch.full((length,), float(value)) for value, length in enumerate([3, 5, 3, 0, 5, 3])]
    found = embed_by_length(clips, embed)
    assert seen == [(3, 3), (2, 5), (1, 1)]
    assert [float(one) for one in found] == [0.0, 5.0, 6.0, 0.0, 20.0, 15.0]


def test_long_clips_do_not_share_a_call() -> None:
    assert list(calls([2**24, 2**24, 2**24, 2**26])) == [[0, 1], [2], [3]]


def test_pins_name_versions_and_the_torchcodec_of_this_torch() -> None:
    for name, pins in json.loads((HERE / "suites.json").read_bytes()).items():
        for arguments in installs(pins):
            wanted = [one for one in arguments if one != "--no-deps"]
            assert all("==" in one for one in wanted), name


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["xares_llm", "evar"])
def test_the_adapter_agrees_with_the_hear_api(benchmark: str, tree: Path) -> None:
    found = check(benchmark, tree)
    assert found["passed"] is True, found["measured"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "right", "wrong"),
    [
        ("xares_llm", "audio[row, :length] for row, length", "audio[row] for row, length"),
        ("xares_llm", "return self._embed(audio), None", "return self._embed(audio), torch.ones(1)"),
        ("evar", ".transpose(1, 2)", ""),
        ("evar", "return get_scene_embeddings(batch_audio, self.model)", "return get_scene_embeddings(batch_audio * 0.5, self.model)"),
    ],
)
def test_a_wrong_adapter_is_caught(benchmark: str, right: str, wrong: str, tree: Path) -> None:
    file = tree / NAME / "suites" / f"{benchmark}.py"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, wrong))
    assert check(benchmark, tree)["passed"] is False


@pytest.mark.slow
def test_the_checker_of_xares_accepts_the_wheel(wheel: Path, tmp_path: Path) -> None:
    weights = wheel.parent / f"{NAME}-0.1.0.safetensors"
    (row,) = suite_rows(wheel, NAME, weights, tmp_path / "scratch", only=("xares",))
    assert row.passed is True, row.measured
    assert "ten minutes give" in row.measured


@pytest.mark.slow
def test_the_package_prints_how_to_run_each_benchmark(tree: Path) -> None:
    command = [sys.executable, "-m", NAME, "suites"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert all(
        f"{NAME}{rest}" in text for rest in (".suites.mteb run", "/suites/xares.py", ".suites.xares_llm.AudioEncoder", ".suites.evar")
    )
    config = subprocess.run([*command, "evar"], capture_output=True, text=True, check=True, env=environment).stdout
    assert re.search(rf"^audio_repr: {NAME}\.AudioRepresentation$", config, re.MULTILINE)
    assert re.search(rf"^name: {NAME}-0\.1\.0-[0-9a-f]{{12}}$", config, re.MULTILINE)


@pytest.mark.slow
def test_suites_of_a_module_are_refused() -> None:
    command = [sys.executable, str(ROOT / "export" / "verify.py"), "json", "--suites"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--suites verifies the adapters of a wheel" in done.stderr
