"""`make reference`: its commands rebuild the reference model that ships, and what they need is checked before the first of them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from hear_ssl.synthesis.__main__ import parse_arguments
from hear_ssl.training.config import load_config

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "export" / "reference" / "hear_reference"
OPTIONS = {  # where the options of a script or a command are declared
    "train/fit.py": "training/fit_cli.py",
    "export/package.py": "packaging/package_cli.py",
    "hear_ssl/evaluate.py": "evaluation/__main__.py",
}


def make_reference(folder: Path, *given: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `make reference` with its output under a folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a make that runs the tests
    command = ["make", "reference", f"REFERENCE={folder / 'out'}", f"VENV={folder / 'environment'}", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**inherited, **environment})


def commands(folder: Path) -> list[list[str]]:
    """Return what `make reference` would run in Python, in order: a script or module with its arguments."""
    (folder / "environment").mkdir()
    (folder / "environment" / "installed").touch()
    done = make_reference(folder, "-n", "BIN=ours", "WORKERS=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", "").splitlines()
    return [
        shlex.split(line.rpartition("ours/python ")[2].partition("; fi")[0])
        for line in lines
        if "ours/python " in line and " -c " not in line
    ]


def file_of(command: list[str]) -> tuple[str, list[str]]:
    """Return the file that a command runs, relative to the repository, and its arguments."""
    script, *given = command
    return (given[0].replace(".", "/") + ".py", given[1:]) if script == "-m" else (script, given)


def fake_dpkg(folder: Path, missing: list[str]) -> str:
    """Write a dpkg-query to which all packages but some are installed, and return a PATH that has it first."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "dpkg-query"
    cases = "".join(f"*' {package}') printf 'deinstall ok config-files'; exit 0;;\n" for package in missing)
    script.write_text(f"#!/bin/sh\ncase \"$*\" in\n{cases}*) printf 'install ok installed';;\nesac\n")
    script.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


def test_every_command_and_option_exists(tmp_path: Path) -> None:
    for command in commands(tmp_path):
        if command[:2] == ["-m", "hear_ssl.synthesis"]:
            parse_arguments(command[2:])  # raises ValueError on an unknown kind, option or value
            continue
        name, given = file_of(command)
        places = (ROOT / name, (ROOT / name).with_suffix("") / "__main__.py", ROOT / "hear_ssl" / OPTIONS.get(name, "-"))
        script = "".join(place.read_text() for place in places if place.exists())
        assert script, f"{name} does not exist"
        unknown = [option for option in given if option.startswith("--") and f'"{option}"' not in script]
        assert not unknown, (name, unknown)


def test_the_commands_are_those_of_the_model_that_ships(tmp_path: Path) -> None:
    manifest = json.loads((PACKAGE / "manifest.json").read_text())
    training, sizes = manifest["training"], manifest["sizes"]
    found: dict[str, list[list[str]]] = {}
    for name, given in map(file_of, commands(tmp_path)):
        found.setdefault(name, []).append(given)
    for given in found["train/fit.py"]:
        config, *overrides = given[1:]
        load_config(ROOT / config, overrides)
    levels = [f"{level:g}" for level in training["tower_levels"]]
    encoders = ["--timestamp-encoders", str(manifest["embedder"]["timestamp"]["towers"])]
    assert found["examples/reference/combine.py"][0][4:-2] == ["--random", "--level", *levels, *encoders]
    fitted = found["examples/reference/reduce.py"][0]
    timestamp = [f"{level:g}" for level in training["projection"]["timestamp_level"]]
    assert fitted[fitted.index("--timestamp-level") + 1 :][: len(timestamp)] == timestamp
    for option, part in (("--scene", "scene_embedding_size"), ("--timestamp", "timestamp_embedding_size")):
        assert int(fitted[fitted.index(option) + 1]) == sizes[part]


def test_audio_and_tasks_come_first_and_from_the_repository(tmp_path: Path) -> None:
    out, run = tmp_path / "out", commands(tmp_path)
    assert run[0] == ["-m", "examples.reference.fetch_audio", f"{out}/audio"]
    assert run[1] == ["-m", "examples.reference.build_tasks", f"{out}/audio", f"{out}/tasks"]
    assert sum("--tasks" in command and f"{out}/tasks" in command for command in run) == 1  # the evaluation reads them
    for command in run:
        assert (ROOT / file_of(command)[0]).exists() or (ROOT / file_of(command)[0]).with_suffix("").is_dir()


def test_every_missing_package_is_named_before_anything_is_made(tmp_path: Path) -> None:
    missing = ["espeak-ng", "festvox-ru"]
    done = make_reference(tmp_path, PATH=fake_dpkg(tmp_path, missing))
    assert done.returncode == 2
    assert "Debian packages are missing; install them: apt-get install espeak-ng festvox-ru\n" in done.stderr
    assert "fluidsynth" not in done.stderr
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]  # neither an environment nor audio


def test_without_debian_all_packages_are_missing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dpkg-query").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "dpkg-query").chmod(0o755)
    done = make_reference(tmp_path, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "fluidsynth espeak-ng festival festvox-italp16k" in done.stderr
