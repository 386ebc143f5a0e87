"""Recipes inherit from recipes, and every recipe resolves to what it resolved to before it had a base."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.model.options import to_mapping
from hear_ssl.training.config import load_config, resumed_config
from hear_ssl.training.recipes import recipe_names, recipe_path
from tests.conftest import ROOT

RESOLVED: dict[str, Any] = json.loads(Path(__file__).with_name("resolved_recipes.json").read_text())


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Return the values of nested data by dotted keys."""
    if isinstance(value, dict) and value:
        return {name: leaf for part in value for name, leaf in leaves(value[part], f"{key}.{part}").items()}
    if isinstance(value, list) and any(isinstance(element, dict) for element in value):
        return {key: len(value), **leaves({str(place): element for place, element in enumerate(value)}, key)}
    return {key: value}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize("recipe", sorted(RESOLVED))
def test_a_recipe_resolves_to_the_frozen_config(recipe: str) -> None:
    """Keys that are newer than the frozen config are not compared."""
    frozen, now = leaves(RESOLVED[recipe]), leaves(to_mapping(load_config(recipe, [])))
    assert {key: now.get(key) for key in frozen} == frozen
    assert list(load_config(recipe, []).objective) == list(RESOLVED[recipe]["objective"])


def test_a_recipe_is_found_by_its_name_from_any_folder_and_a_file_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe_names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    assert recipe_path("simclr") == ROOT / "configs" / "simclr.yaml"
    write(tmp_path, simclr="seed: 1")
    assert load_config("simclr", []).seed == 0
    assert load_config("simclr.yaml", []).seed == 1


@pytest.mark.slow
def test_an_installation_has_its_recipes_inside_the_package(tmp_path: Path) -> None:
    """Without a checkout around it, hear_ssl.configs is a folder in the package."""
    shutil.copytree(ROOT / "hear_ssl", tmp_path / "hear_ssl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "hear_ssl" / "configs")
    (tmp_path / "configs").mkdir()  # of another package
    script = "from hear_ssl.training.config import load_config; print(load_config('vicreg', []).data.crops[0].seconds)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout == "0.96\n", done.stderr


def test_a_chain_of_bases_applies_from_the_first_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, first="base: null\nseed: 1\ntrainer: {steps: 10, log_every: 1}", second="base: first.yaml\ntrainer: {steps: 20}")
    write(tmp_path / "below", third="base: ../second.yaml\nname: third")
    config = load_config(tmp_path / "below" / "third.yaml", ["trainer.log_every=3"])
    assert (config.name, config.seed, config.trainer.steps, config.trainer.log_every) == ("third", 1, 20, 3)


def test_an_inherited_objective_stays_unless_it_is_null(tmp_path: Path) -> None:
    write(tmp_path, more="base: simclr\nobjective: {frame: {}}", other="base: simclr\nobjective: {nt_xent: null, cola: {}}")
    more = load_config(tmp_path / "more.yaml", ["views.0.augment.3.time=0", "views.1.augment.4.time=0", "views.1.crop=0"])
    assert (list(more.objective), more.objective["nt_xent"].options.temperature) == (["nt_xent", "frame"], 0.2)
    assert list(load_config(tmp_path / "other.yaml", []).objective) == ["cola"]


def test_another_encoder_replaces_the_inherited_one_and_lists_are_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path, vit="base: reference\nencoder: {vit: {depth: 2}}\nscene: [bands]\nviews: [{crop: 1, augment: [noise]}, {crop: 0}]")
    config = load_config(tmp_path / "vit.yaml", [])
    assert (config.encoder.name, config.encoder.options.depth) == ("vit", 2)
    assert [part.name for part in config.scene] == ["bands"]
    assert [(view.crop, [part.name for part in view.augment]) for view in config.views] == [(1, ["noise"]), (0, [])]


def test_one_element_of_an_inherited_list_can_be_changed(tmp_path: Path) -> None:
    write(tmp_path, changed="base: simclr\nviews: {1: {augment: {2: {std: 0.1}}}}\ndata: {crops: {0: {seconds: 2}}}")
    config = load_config(tmp_path / "changed.yaml", [])
    assert config.views[1].augment[2].options.std == 0.1
    assert (config.data.crops[0].seconds, config.data.crops[0].count) == (2.0, 2)


def test_the_class_in_a_base_is_searched_in_the_folder_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    shutil.copy(ROOT / "examples" / "own_encoder.py", tmp_path)
    write(tmp_path, net="encoder: {./own_encoder.py:TimeNet: {width: 32}}")
    write(tmp_path / "below", wide="base: ../net.yaml\nencoder: {TimeNet: {width: 64}}")
    assert load_config(tmp_path / "below" / "wide.yaml", []).encoder.options.width == 64


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base: one.yaml", "one.yaml: its bases lead back to itself"),
        ("base: two.yaml", "one.yaml: its bases lead back to itself"),
        ("base: simclrr", "simclrr does not exist; give the path of a YAML file or the name of a recipe (did you mean 'simclr'?)"),
        ("base: none/cola.yaml", "cola.yaml does not exist; give the path of a YAML file or the name of a recipe (did you mean 'cola'?)"),
        ("base: [simclr, cola]", "base is ['simclr', 'cola']; give the name of one recipe"),
        ("base: 3", "base is 3; give the name of one recipe"),
        ("base: broken.yaml", "broken.yaml is not YAML"),
        ("base: ${name}", "does not exist"),
    ],
)
def test_a_wrong_base_gets_one_line(tmp_path: Path, text: str, line: str) -> None:
    write(tmp_path, one=text, two="base: three.yaml", three="base: ./one.yaml", broken="a: [1")
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(tmp_path / "one.yaml", [])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_base_belongs_in_a_file() -> None:
    with pytest.raises(ValueError, match=r"'base=simclr': base is for a YAML file"):
        load_config(None, ["base=simclr"])


def test_a_mistake_in_a_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path, wrong="trainer: {stepps: 3}", mine="base: wrong.yaml")
    with pytest.raises(ValueError, match=r"wrong.yaml: there is no config key 'trainer.stepps'"):
        load_config(tmp_path / "mine.yaml", [])


def test_the_config_of_a_run_has_no_base_and_takes_none(tmp_path: Path) -> None:
    from hear_ssl.version import __version__

    (tmp_path / "config.yaml").write_text(f"# hear_ssl {__version__}\nbase: simclr\n")
    with pytest.raises(ValueError, match="there is no config key 'base'"):
        resumed_config(tmp_path, [])
