"""Find recipes: by the name of a file in configs/, or by the path of any YAML file. Needs no torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from hear_ssl.errors import nearest
from hear_ssl.machine import expand_home

if TYPE_CHECKING:
    from importlib.abc import Traversable

SUFFIX = ".yaml"


def recipes_folder() -> Traversable:
    """Return the folder of the recipes: configs/ of a checkout, or the package hear_ssl.configs of an installation."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "configs").is_dir():
        return checkout / "configs"
    return files("hear_ssl.configs")


def recipe_names() -> list[str]:
    """Return the names of all recipes, in order."""
    return sorted(entry.name.removesuffix(SUFFIX) for entry in recipes_folder().iterdir() if entry.name.endswith(SUFFIX))


def recipe_path(given: str | Path, folder: Path | None = None) -> Path:
    """Return the YAML file given by a recipe's name, such as simclr, or by a path relative to `folder` (the working folder).

    A plain name is that of a recipe if there is one, otherwise that of a file. Raises ValueError with the nearest recipe when there is
    neither.
    """
    text, names = str(given), recipe_names()
    if text in names:
        return Path(str(recipes_folder().joinpath(text + SUFFIX)))
    path = (folder or Path()) / expand_home(text, "the path")
    if path.is_file():
        return path
    hint = nearest(path.name.removesuffix(SUFFIX), names)
    raise ValueError(f"config {path} does not exist; give the path of a YAML file or the name of a recipe{hint}: {', '.join(names)}")
