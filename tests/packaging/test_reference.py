"""The reference model that comes with the source: it loads offline, gives its golden embeddings, and installs with pip."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hear_ssl.model.options import EmbedderConfig, from_mapping, to_mapping
from hear_ssl.old_versions import current_config
from hear_ssl.synthesis.__main__ import parse_arguments
from hear_ssl.training.config import load_config

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "export" / "reference"
PACKAGE = REFERENCE / "hear_reference"

SCRIPT = """
import hear_reference, torch
from hear_reference.weights import read_tensors
golden = read_tensors(hear_reference.__path__[0] + "/golden.safetensors")
model = hear_reference.load_model()
scene = hear_reference.get_scene_embeddings(golden["audio"], model)
frames, timestamps_ms = hear_reference.get_timestamp_embeddings(golden["audio"], model)
torch.testing.assert_close(scene, golden["scene_embeddings"], rtol=1e-3, atol=1e-3)
torch.testing.assert_close(frames, golden["timestamp_embeddings"], rtol=1e-3, atol=1e-3)
assert torch.equal(timestamps_ms, golden["timestamps_ms"])
"""


def test_the_reference_gives_its_golden_embeddings_from_its_own_folder_and_offline(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REFERENCE), "HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "https_proxy": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_reference_was_trained_by_its_configs() -> None:
    training = json.loads((PACKAGE / "manifest.json").read_text())["training"]
    towers = [training["config"], *(tower["config"] for tower in training["other_towers"])]
    whole = from_mapping(EmbedderConfig, current_config(training["config"])["embedder"], "embedder")
    assert whole.encoder.towers + len(whole.beside) == len(towers) + training["random_tower"] == 5
    for trained, name in zip(towers, ("reference", "reference_strokes", "reference_voices", "reference_words"), strict=True):
        config = load_config(ROOT / "configs" / f"{name}.yaml", [])
        embedder = from_mapping(EmbedderConfig, current_config(trained)["embedder"], "embedder")  # compositions are chosen at export
        assert (embedder.frontend, replace(embedder.encoder, towers=1)) == (config.embedder.frontend, config.embedder.encoder), name
        for part in ("objective", "views", "optimizer"):
            assert trained[part] == to_mapping(getattr(config, part)), (name, part)
        assert (trained["trainer"]["steps"], trained["data"]["batch_size"]) == (config.trainer.steps, config.data.batch_size)


def make_reference(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """Run `make reference` with its way under a folder, which stands for an installed environment, too."""
    (folder / "installed").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a make around the tests
    command = ["make", "reference", f"WAY={folder / 'way'}", f"VENV={folder}", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def commands(folder: Path) -> list[list[str]]:
    """Return what `make reference` would run in Python, in order: a script or module with its arguments."""
    done = make_reference(folder, "-n", "REALAUDIO=there", "BIN=ours", "WORKERS=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", "").splitlines()
    return [
        shlex.split(line.rpartition("ours/python ")[2].partition("; fi")[0])
        for line in lines
        if "ours/python " in line and " -c " not in line
    ]


def test_one_command_goes_the_way_of_the_reference(tmp_path: Path) -> None:
    manifest = json.loads((PACKAGE / "manifest.json").read_text())
    training, sizes = manifest["training"], manifest["sizes"]
    found: dict[str, list[list[str]]] = {}
    for module, *given in commands(tmp_path):
        if given[:1] == ["hear_ssl.synthesis"]:
            parse_arguments(given[1:])  # raises ValueError on an unknown kind, option or value
            continue
        name = given.pop(0).replace(".", "/") + ".py" if module == "-m" else module
        found.setdefault(name, []).append(given)
        own = {"train/fit.py": "training/fit_cli.py", "export/package.py": "packaging/package_cli.py"}  # where a script's options stand
        places = (ROOT / name, (ROOT / name).with_suffix("") / "__main__.py", ROOT / "hear_ssl" / own.get(name, "-"))
        script = "".join(place.read_text() for place in places if place.exists())
        unknown = [option for option in given if option.startswith("--") and f'"{option}"' not in script]
        assert not unknown, (name, unknown)
    for given in found["train/fit.py"]:
        config, *overrides = given[1:]
        load_config(ROOT / config, overrides)
    levels = [f"{level:g}" for level in training["tower_levels"]]
    assert found["examples/reference/combine.py"][0][4:-2] == ["--random", "--level", *levels]
    fitted = found["examples/reference/whiten.py"][0]
    timestamp = [f"{level:g}" for level in training["projection"]["timestamp_level"]]
    assert fitted[fitted.index("--timestamp-level") + 1 :][: len(timestamp)] == timestamp
    for option, part in (("--scene", "scene_embedding_size"), ("--timestamp", "timestamp_embedding_size")):
        assert int(fitted[fitted.index(option) + 1]) == sizes[part]


def test_one_command_says_at_once_what_it_lacks(tmp_path: Path) -> None:
    done = make_reference(tmp_path, f"REALAUDIO={tmp_path}")
    assert done.returncode == 2
    assert f"REALAUDIO={tmp_path} has no fetch.sh; give the folder with fetch.sh and build.py" in done.stdout + done.stderr
    assert not (tmp_path / "way").exists()


def test_the_reference_is_small_and_says_what_it_learned_from() -> None:
    assert (PACKAGE / "weights.safetensors").stat().st_size < 25e6
    sources = json.loads((PACKAGE / "manifest.json").read_text())["training"]["data"]["sources"]
    assert all(source["license"] not in ("", "unknown") for source in sources)
    assert "CC0-1.0" in {source["license"] for source in sources}  # the synthetic part
