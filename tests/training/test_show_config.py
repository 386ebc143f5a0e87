"""The printed config loads back to the same config, and each value names where it came from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.model.options import to_mapping
from hear_ssl.training.config import load_config
from hear_ssl.training.recipes import recipe_names
from hear_ssl.training.show_config import config_lines, main
from tests.conftest import ROOT


def origin(printed: list[str], text: str) -> str:
    """Return the origin in the comment of the only line that begins with a text."""
    (line,) = [line for line in printed if line.strip().startswith(text)]
    return line.partition("  # ")[2].partition(";")[0]


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("recipe", [None, *recipe_names()])
def test_what_is_printed_loads_back_to_the_same_config(tmp_path: Path, recipe: str | None, changed: bool) -> None:
    overrides = ["data.shards=[a,'1e5']", "name=007", "trainer.steps=7", "timestamp=[{contexts: {ms: [50]}},frames]", "speed.compile=true"]
    file = tmp_path / "printed.yaml"
    file.write_text("\n".join(config_lines(recipe, overrides, changed)))
    again, config = load_config(file, []), load_config(recipe, overrides)
    assert again == config
    assert json.dumps(to_mapping(again)) == json.dumps(to_mapping(config))


def test_a_value_names_the_last_source_that_set_it(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("seed: 1\nencoder: {vit: {depth: 2, dim: 24}}\nobjective: {nt_xent: {temperature: 0.3}}\n")
    (tmp_path / "mine.yaml").write_text("base: first.yaml\nencoder: {vit: {depth: 3}}\nobjective: [nt_xent, cola]\n")
    printed = config_lines(tmp_path / "mine.yaml", ["trainer.steps=2000", "encoder.vit.heads=4"])
    assert origin(printed, "seed:") == "base first.yaml"
    assert origin(printed, "dim:") == "base first.yaml"
    assert origin(printed, "depth:") == "file mine.yaml"
    assert origin(printed, "heads:") == "command line"
    assert origin(printed, "window_frames:") == "default"
    assert origin(printed, "temperature: 0.3") == "base first.yaml"
    assert origin(printed, "steps:") == "command line"  # though it is that of the default
    assert f"# base first.yaml: {tmp_path / 'first.yaml'}" in printed


def test_a_class_that_is_replaced_has_its_defaults_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: reference\nscene: [pooled]\nviews: [{augment: [{gain: {db: 6}}, noise]}, {crop: 1}]\n")
    printed = config_lines(tmp_path / "mine.yaml", ["encoder=vit", "encoder=audio_ntt", "views.0.augment.1.std=0.5", "scene.0.layers=last"])
    assert origin(printed, "channels:") == "default"
    assert origin(printed, "how:") == "default"
    assert [line.partition("# ")[2][:12] for line in printed if " layers: last" in line] == ["command line", "base referen"]
    assert origin(printed, "db:") == "file mine.yaml"
    assert origin(printed, "std: 0.5") == "command line"
    assert origin(printed, "- crop: 0") == "default"
    assert origin(printed, "- crop: 1") == "file mine.yaml"


def test_every_key_has_its_meaning_unit_and_range() -> None:
    printed = config_lines("clip_frame_pitch", [])
    for line in printed[4:]:
        text, _, comment = line.partition("  # ")
        assert comment or text.rstrip().endswith(":"), line
    assert next(line for line in printed if " semitones:" in line).endswith("up or down [semitones, 0.5 to 24]")
    assert next(line for line in printed if " batch_size:" in line).endswith("[clips, 2 to 1048576]")


def test_only_what_differs_is_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    main(["trainer.steps=2000", "seed=3", "--changed"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line.partition(" ")[0] for line in lines] == ["seed:"]


def test_a_class_of_the_user_is_described_like_any_other(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "own_encoder.py", tmp_path)
    (tmp_path / "mine.yaml").write_text("encoder: {./own_encoder.py:TimeNet: {width: 32}}\nobjective: {nt_xent: {}}\n")
    printed = config_lines(tmp_path / "mine.yaml", [])
    assert origin(printed, "width:") == "file mine.yaml"
    (tmp_path / "printed.yaml").write_text("\n".join(printed))
    assert load_config(tmp_path / "printed.yaml", []) == load_config(tmp_path / "mine.yaml", [])


def test_credentials_are_not_printed() -> None:
    printed = "\n".join(config_lines("simclr", ["data.shards=https://me:secret@example.com/shards?X-Amz-Signature=4f5e"]))
    assert "example.com/shards" in printed
    assert "secret" not in printed
    assert "4f5e" not in printed


def test_a_mistake_gets_one_line() -> None:
    command = [sys.executable, "-m", "hear_ssl.training.show_config", "simcrl", "seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "did you mean 'simclr'?" in done.stderr
    assert done.stderr.count("\n") == 1
