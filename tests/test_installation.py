"""hear_ssl as others install it: an sdist, the wheel built of it, and its commands from a folder outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from hear_ssl.__main__ import COMMANDS
from hear_ssl.training.recipes import recipe_names
from tests.conftest import NT_XENT, TINY

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("hear_ssl", "configs", "tests", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
BUILD = "import setuptools.build_meta as backend, sys; print(backend.build_sdist(sys.argv[1]))"
pytestmark = pytest.mark.slow


def run(command: list[str], folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without the checkout in Python's path."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode == status, done.stderr
    return done


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"WANDB_MODE": "disabled"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, source / name)
    run([sys.executable, "-c", BUILD, str(out)], source)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "--wheel-dir", str(out), str(sdist)], out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of a new environment with hear_ssl; it finds what hear_ssl needs in the running one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*/site-packages"))
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a .pth file in there, of a checkout, is not followed
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check", "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    return folder / "bin"


def test_sdist_has_what_a_wheel_is_built_of_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "setup.py", "pyproject.toml", "configs/simclr.yaml", "hear_ssl/py.typed"}
    assert not [name for name in names if name.startswith("tests")]


def test_wheel_has_the_recipes_the_tables_and_the_mark_of_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"hear_ssl/configs/{name}.yaml" for name in recipe_names()} == {name for name in names if name.endswith(".yaml")}
    tables = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "hear_ssl").rglob("*.csv"))
    assert tables == sorted(name for name in names if name.endswith(".csv"))
    assert "hear_ssl/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"hear_ssl"}


def test_the_command_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    place = run([str(installed / "python"), "-c", "import hear_ssl; print(hear_ssl.__file__)"], tmp_path).stdout
    assert place.startswith(str(installed.parent))
    overview = run([str(installed / "hear-ssl")], tmp_path).stdout
    assert all(f"\n  {name} " in overview for name in COMMANDS)
    assert f"file simclr.yaml: {installed.parent}" in run([str(installed / "hear-ssl"), "config", "simclr"], tmp_path).stdout
    assert "recipe" in run([str(installed / "hear-ssl"), "fit", "--config", "simcl"], tmp_path, status=2).stderr


def test_from_a_corpus_to_a_wheel_that_embeds(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "hear-ssl")
    run([command, "synth", "instruments", "--out", "shards", "--clips", "24", "--seed", "0", "--tasks", "tasks"], tmp_path)
    small = [*TINY, *NT_XENT, "views.0.augment.2.memory=16", "views.1.augment.3.memory=16", "data.workers=1"]
    trained = run([command, "fit", "--config", "simclr", "data.shards=shards", "run=run", *small], tmp_path).stdout
    assert trained.splitlines()[-1] == f"done: {tmp_path.resolve()}/run/checkpoints/last.ckpt"
    scored = [command, "evaluate", "--module", "run", "--tasks", "tasks", "--out", "scores", "--grid", "fast", "--only", "pitch"]
    assert "of 1 task " in run(scored, tmp_path).stdout
    model = ["--name", "hear_mine", "--version", "0.1.0", "--weights-url", "https://example.com/w.safetensors", "--allow-unpublished"]
    run([command, "package", "--checkpoint", "run", *model, "--out", "dist"], tmp_path)
    audio = tmp_path / "tasks" / "synth_pitch-v1-full" / "16000" / "test"
    file = next(audio.glob("*.wav"))
    run([command, "embed", str(file), "--model", "dist/hear_mine-0.1.0.safetensors", "--out", "one.npz"], tmp_path)
    assert (tmp_path / "one.npz").stat().st_size


TYPED = """
import torch
import hear_ssl as hs

run = hs.fit("simclr", shards="shards", steps=200)
reveal_type(run)
reveal_type(hs.load(run).scene(torch.randn(4, 16000)))
reveal_type(hs.objectives.NTXent(dim=512, temperature=0.2))
reveal_type(hs.evaluate(run, tasks="tasks", grid="fast"))
wheel = hs.package(run, name="hear_mymodel", version="0.1.0", weights_url="https://example.com/w", allow_unpublished=True)
reveal_type(wheel)
reveal_type(hs.verify(wheel))
hs.fit("simclr", stepz=1)
"""
TYPES = [
    "hear_ssl.training.verbs.Run",
    "torch._tensor.Tensor",
    "hear_ssl.objectives.nt_xent.NTXent",
    "dict[str, Any]",
    "pathlib.Path",
    "list[hear_ssl.packaging.rules.rows.RuleResult]",
]


def test_mypy_finds_the_types_of_the_installed_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed / "python"), "program.py"]
    lines = run(command, tmp_path, status=1).stdout.splitlines()
    assert [line.partition('Revealed type is "')[2].rstrip('"') for line in lines if "Revealed" in line] == TYPES
    errors = [line for line in lines if ": error: " in line]
    assert len(errors) == 1
    assert 'Unexpected keyword argument "stepz" for "fit"' in errors[0]
