"""The files of examples/ do what they say, on the embedded corpus. test_own_parts_wheel.py trains and exports the classes of own_*.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import soundfile
import torch

import hear_ssl
from examples import find_similar_sounds, own_training_loop, torch_dataset
from tests.conftest import NT_XENT, ROOT, TINY

SMALL = dict(override.split("=", 1) for override in [*TINY, *NT_XENT] if not override.startswith("trainer.steps"))


def test_every_example_is_a_page_long() -> None:
    for path in (ROOT / "examples").glob("*.*"):
        if path.suffix in (".py", ".sh", ".yaml"):
            assert len(path.read_text().splitlines()) < 60, path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["find_similar_sounds.py", "own_training_loop.py", "torch_dataset.py", "submit_to_hear.sh"])
def test_an_example_without_arguments_prints_how_to_run_it(name: str) -> None:
    script = ROOT / "examples" / name
    command = [sys.executable, str(script)] if script.suffix == ".py" else [str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode > 0, done.stdout) == (True, "")
    assert f"examples/{name} " in done.stderr
    assert "Traceback" not in done.stderr


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for path in (ROOT / "examples").glob("*.*"):
        name = path.stem if path.suffix == ".py" else path.name
        assert path.stem == "__init__" or name in tests, path


@pytest.fixture(scope="module")
def recordings(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of WAV files of two seconds and less: the clips of the corpus."""
    folder = tmp_path_factory.mktemp("recordings")
    with tarfile.open(next(shards.glob("*.tar"))) as archive:
        for member in archive.getmembers():
            if member.name.endswith(".flac"):
                samples, rate = soundfile.read(BytesIO(archive.extractfile(member).read()), 32000)  # type: ignore[union-attr]
                soundfile.write(folder / f"{Path(member.name).stem}.wav", samples, rate)
    return folder


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> hear_ssl.Run:
    """Train on a torch dataset of the recordings."""
    return torch_dataset.main(str(recordings), str(tmp_path_factory.mktemp("dataset") / "run"), steps=4, **SMALL)


@pytest.mark.slow
def test_a_torch_dataset_trains(run: hear_ssl.Run, recordings: Path) -> None:
    rows = run.metrics()
    assert [row["step"] for row in rows] == [1.0, 2.0, 3.0, 4.0]
    assert sum(row["clips_lost"] for row in rows) == 0.0
    assert hear_ssl.load(run).scene(torch.randn(2, 8000)).shape == (2, 128)


@pytest.mark.slow
def test_the_nearest_sound_is_the_same_recording_in_another_format(run: hear_ssl.Run, recordings: Path, tmp_path: Path) -> None:
    files = sorted(recordings.glob("*.wav"))[:8]
    samples, rate = soundfile.read(files[3])
    soundfile.write(tmp_path / "query.flac", samples, rate)
    found = find_similar_sounds.nearest(str(run), str(tmp_path / "query.flac"), list(map(str, files)), count=3)
    assert found[0] == (pytest.approx(1.0, abs=1e-3), str(files[3]))
    assert found[0][0] > found[1][0] >= found[2][0]
    with pytest.raises(ValueError, match=r"examples.py cannot be embedded"):
        find_similar_sounds.nearest(str(run), __file__, list(map(str, files)))


@pytest.mark.slow
def test_the_training_loop_lowers_the_loss(recordings: Path) -> None:
    files = list(map(str, sorted(recordings.glob("*.wav"))[:12]))
    losses = []
    for steps in (1, 12):
        torch.manual_seed(0)
        losses.append(own_training_loop.main(files, steps))
    assert losses[1] < 0.8 * losses[0]


@pytest.mark.slow
def test_the_script_ends_with_a_verified_package_and_the_commands_of_the_kit(run: hear_ssl.Run, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert shutil.which("hear-ssl", path=environment["PATH"]), "install the project: pip install -e ."
    script = [str(ROOT / "examples" / "submit_to_hear.sh"), str(run), "hear_mine", "--data-license", "Recordings=CC0-1.0"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rules hold: ready to submit" in done.stdout
    assert "python3 -m heareval.embeddings.runner hear_mine --tasks-dir" in done.stdout
    assert (tmp_path / "dist" / "hear_mine-0.1.0-py3-none-any.whl").is_file()
