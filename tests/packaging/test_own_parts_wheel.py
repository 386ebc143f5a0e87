"""Classes from a user's own files go the whole way: trained, resumed, evaluated, packaged, installed, verified."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from hear_ssl.checkpoint import embedder_from_checkpoint, load_checkpoint
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.verify import verify
from tests.conftest import NT_XENT, ROOT, TINY
from tests.evaluation.test_evaluate import QUICK, make_scene

pytestmark = pytest.mark.slow
SIZES = ["encoder.TimeNet.width=16", "encoder.TimeNet.blocks=2", "objective.AngularMargin.projection_dim=16", *NT_XENT]
TRAIN = [*(override for override in TINY if not override.startswith("encoder")), *SIZES, "trainer.steps=4", "trainer.checkpoint_every=2"]
TWO_WHEELS = """
import torch
import hear_ssl.model
import hear_first, hear_second
audio = torch.linspace(-1, 1, 16000).sin()[None]
models = [module.load_model() for module in (hear_first, hear_second)]
assert type(models[0].encoder).__module__ == "hear_first.own.own_encoder"
assert type(models[1].encoder).__module__ == "hear_second.own.own_encoder"
first, second = (module.get_scene_embeddings(audio, model) for module, model in zip((hear_first, hear_second), models))
assert torch.equal(first, second)
torch.save(first, "embedding.pt")
"""


def script(*arguments: str, cwd: Path) -> str:
    """Run one of the commands in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files of examples/ into a folder of their own and train from there; return the folder, with a run in it."""
    folder = tmp_path_factory.mktemp("own")
    for file in ("own_encoder.py", "own_objective.py", "own_view.py", "own_readout.py", "own_parts.yaml"):
        shutil.copy(ROOT / "examples" / file, folder)
    command = [str(ROOT / "train/fit.py"), "--config", "own_parts.yaml", f"data.shards={shards}", "run=run", *TRAIN]
    printed = script(*command, cwd=folder)
    assert "objective 0.5 * nt_xent, 0.5 * AngularMargin; encoder TimeNet\n" in printed
    return folder


def rows_of(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv."""
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def request(folder: Path, name: str) -> PackageRequest:
    """Return the request for a package with its weights."""
    return PackageRequest(folder / "run" / "checkpoints" / "last.ckpt", name, "0.1.0", "https://example.com/w", True, False, {}, True)


def test_the_run_resumes_to_the_same_bits(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "resumed")
    checkpoints = folder / "resumed" / "checkpoints"
    (checkpoints / "step-00000004.ckpt").unlink()
    (checkpoints / "last.ckpt").unlink()
    shutil.copy(checkpoints / "step-00000002.ckpt", checkpoints / "last.ckpt")
    script(str(ROOT / "train/fit.py"), "--resume", "resumed", cwd=folder)
    whole, resumed = (load_checkpoint(folder / run)["state_dict"] for run in ("run", "resumed"))
    assert any(name.startswith("objective.terms.AngularMargin.") for name in whole)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    losses = [[row["loss_AngularMargin"] for row in rows_of(folder / run)] for run in ("run", "resumed")]
    assert losses[0] == losses[1] != []


def test_the_run_evaluates(folder: Path) -> None:
    make_scene(folder / "tasks" / "tones", **QUICK)
    command = ["-m", "hear_ssl.evaluate", "--module", "run", "--tasks", "tasks", "--out", "scores", "--grid", "official"]
    script(*command, cwd=folder)
    record = json.loads((folder / "scores" / "scores.json").read_text())
    assert "tones" in json.dumps(record)


def test_the_wheel_contains_the_file_and_passes_every_rule(folder: Path) -> None:
    wheel = package(request(folder, "hear_own"), folder / "dist")
    original = (folder / "own_encoder.py").read_text()
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("hear_own/own/own_encoder.py").decode()
        readout = archive.read("hear_own/own/own_readout.py").decode()
        manifest = json.loads(archive.read("hear_own/manifest.json"))
        text = "".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist() if not name.endswith(".safetensors"))
        meta = archive.read("hear_own-0.1.0.dist-info/METADATA").decode()
    assert source == original.replace("from hear_ssl.model import", "from hear_own import")
    assert readout == (folder / "own_readout.py").read_text().replace("from hear_ssl.model import", "from hear_own import")
    sha256 = hashlib.sha256((folder / "own_readout.py").read_bytes()).hexdigest()
    assert manifest["parts"]["Deltas"] == {"module": "own_readout", "sha256": sha256}
    assert manifest["embedder"]["scene"] == [{"pooled": {"layers": "all", "how": "mean+max"}}, {"Deltas": {"power": 1.0}}]
    assert str(folder) not in text
    assert [line for line in meta.splitlines() if line.startswith("Requires")][:2] == [
        "Requires-Python: >=3.8",
        "Requires-Dist: torch>=2.0",
    ]
    rows = verify(wheel, None, memory="none")
    assert {row.name: row.measured for row in rows if row.passed is False} == {}
    assert {row.name: row.passed for row in rows}["golden tensors"]


def test_a_readout_named_at_the_export_goes_into_the_wheel_of_a_model_that_was_trained_without_it(shards: Path, folder: Path) -> None:
    later = folder / "later"
    later.mkdir()
    source = (folder / "own_readout.py").read_text().replace("class Deltas", "class Moves")
    (later / "moves.py").write_text(source)
    command = [str(ROOT / "train/fit.py"), "--config", str(ROOT / "configs/quickstart.yaml"), f"data.shards={shards}", "run=run", *TINY]
    script(*command, "trainer.steps=1", cwd=later)
    options = ["--version", "0.1.0", "--weights-url", "https://example.com/w", "--bundle-weights", "--allow-unpublished", "--out", "dist"]
    readouts = ["--set", "scene=[{./moves.py:Moves: {power: 2}},bands]", "--set", "scene.0.power=3", "--set", "timestamps_per_token=2"]
    package_script = str(ROOT / "export/package.py")
    script(package_script, "--checkpoint", "run", "--name", "hear_later", *options, *readouts, cwd=later)
    wheel = next((later / "dist").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        manifest = json.loads(archive.read("hear_later/manifest.json"))
    assert manifest["embedder"]["scene"] == [{"Moves": {"power": 3.0}}, {"bands": {}}]
    assert (manifest["sizes"]["hop_ms"], manifest["embedder"]["timestamps_per_token"]) == (20.0, 2)
    assert {row.name: row.measured for row in verify(wheel, None, memory="none") if row.passed is False} == {}


def test_two_wheels_and_hear_ssl_load_in_one_process(folder: Path) -> None:
    paths = [str(package(request(folder, name), folder / "two").parent / name) for name in ("hear_first", "hear_second")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", TWO_WHEELS], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    model, _ = embedder_from_checkpoint(folder / "run")
    with torch.no_grad():
        assert torch.equal(model.scene(torch.linspace(-1, 1, 16000).sin()[None]), torch.load(folder / "embedding.pt", weights_only=True))


def test_syntax_of_a_newer_python_raises_what_the_wheel_requires(shards: Path, folder: Path) -> None:
    newer = folder / "newer"
    newer.mkdir()
    source = (folder / "own_encoder.py").read_text()
    assert "        layers = [" in source
    (newer / "own_encoder.py").write_text(
        source.replace("        layers = [", "        match kept:\n            case None: pass\n        layers = [")
    )
    command = [str(ROOT / "train/fit.py"), "--config", str(ROOT / "configs/quickstart.yaml"), "encoder=./own_encoder.py:TimeNet"]
    sizes = [override for override in TRAIN if "AngularMargin" not in override]
    script(*command, f"data.shards={shards}", "run=run", *sizes, "trainer.steps=1", cwd=newer)
    wheel = package(request(newer, "hear_newer"), newer / "dist")
    with zipfile.ZipFile(wheel) as archive:
        assert "\nRequires-Python: >=3.10\n" in archive.read("hear_newer-0.1.0.dist-info/METADATA").decode()
    tree = newer / "dist" / "hear_newer"
    assert 'requires-python = ">=3.10"' in (tree / "pyproject.toml").read_text()
    assert '"hear_newer.own"' in (tree / "pyproject.toml").read_text()
    assert "Python >= 3.10 and torch >= 2.0" in (tree / "README.md").read_text()
    assert "Python >= 3.10 and torch >= 2.0" in (tree / "COMPLIANCE.md").read_text()
