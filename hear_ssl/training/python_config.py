"""A config given in Python: a recipe, a YAML file or a mapping, and values by dotted keys. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hear_ssl.training.config_sources import BASE, DEEPEST, Source, check_references, read_sources, with_bases
from hear_ssl.training.settings import settings_keys

Recipe = str | os.PathLike[str] | Mapping[str, Any]


def recipe_sources(recipe: Recipe) -> list[Source]:
    """Return the keys of a recipe given by name, of a YAML file, or of a mapping of YAML values, after those of its bases.

    Raises ValueError for a file that is missing or not YAML, and for a mapping with values that YAML does not have.
    """
    if not isinstance(recipe, Mapping):
        return read_sources(os.fspath(recipe), [])
    mapping = plain(recipe, "the config")
    check_references(mapping, "the config")
    return with_bases(Source("the config", mapping, (Path.cwd(),)))


def override_sources(overrides: Mapping[str, Any]) -> list[Source]:
    """Return one source for each key of a mapping such as {"data.batch_size": 8}, in order.

    Raises ValueError for a key or a value that no config has.
    """
    return [Source(shown(key, value), override(key, value), (Path.cwd(),)) for key, value in overrides.items()]


def override(key: str, value: Any) -> dict[Any, Any]:
    """Return a dotted key and its value as nested keys: {"data": {"batch_size": 8}}."""
    if not isinstance(key, str) or not key or "/" in key or key == BASE:
        raise ValueError(
            f"{key!r} is not a key of overrides; give dotted keys such as 'trainer.steps', and the recipe as the config itself"
        )
    where, hint = shown(key, value), settings_keys().get(key, (None,))[0]
    value = plain(value, where)
    if hint and value is None and type(None) not in get_args(hint):
        raise ValueError(f"{where} gives no value; leave {key} out for its default")
    if get_origin(hint) in (list, tuple) and not isinstance(value, list):
        value = [value]
    try:
        tree = OmegaConf.create({})
        OmegaConf.update(tree, key, value)
        mapping = OmegaConf.to_container(tree, resolve=False)
    except (OmegaConfBaseException, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{where} cannot be read ({' '.join(str(error).split())[:120]})") from None
    assert isinstance(mapping, dict)
    check_references(mapping, where)
    return mapping


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """Return a value as YAML has it: mappings, lists, strings, numbers, booleans and None; paths become strings.

    Raises ValueError that names `where` for any other.
    """
    if depth > DEEPEST:
        raise ValueError(f"{where} is nested deeper than {DEEPEST} levels")
    if isinstance(value, Mapping):
        return {name if isinstance(name, int) else str(name): plain(element, where, depth + 1) for name, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(element, where, depth + 1) for element in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f"{where} has a value of type {type(value).__name__}; give a number, a text, a list or a mapping, as YAML has them")


def shown(key: str, value: Any) -> str:
    """Return a key with its value for an error."""
    return f"{key}={value!r}"[:200]
