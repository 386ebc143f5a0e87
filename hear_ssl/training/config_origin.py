"""The origin of each config value: the default, a base, the given recipe or file, or the command line."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from hear_ssl.training.config_sources import Source
from hear_ssl.training.recipes import recipes_folder
from hear_ssl.training.settings import PARTS

DEFAULT = "default"
COMMAND_LINE = "command line"
Keys = tuple[str, ...]
Effect = Enum("Effect", "NOTHING SETS RESETS")  # RESETS: back to the default, since its class or list was replaced


class Origins:
    """The origins of the values that sources resolve to."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Keep the sources in the order in which they apply, see `read_sources`."""
        files = [source.file for source in sources if source.file]
        labels = {file: f"base {file.name}" for file in files[:-1]}
        labels |= {file: f"{'recipe' if file.parent == Path(str(recipes_folder())) else 'file'} {file.name}" for file in files[-1:]}
        self.files = {label: str(file) for file, label in labels.items()}
        self.sources = [(source.mapping, labels[source.file] if source.file else COMMAND_LINE) for source in sources]

    def of(self, *keys: str) -> str:
        """Return the origin of the value at these keys, such as views, 0, crop: names, list indices and short names of classes."""
        origin = DEFAULT
        for mapping, label in self.sources:
            effect = effect_of(mapping, keys)
            origin = label if effect is Effect.SETS else DEFAULT if effect is Effect.RESETS else origin
        return origin


def effect_of(mapping: dict[Any, Any], keys: Keys) -> Effect:
    """Return the effect of one source on a value."""
    section, rest = keys[0], keys[1:]
    if section not in mapping:
        return Effect.NOTHING
    return of_class(section, mapping[section], rest) if section in PARTS else of_change(mapping[section], rest)


def of_class(section: str, node: Any, keys: Keys) -> Effect:
    """Return the effect of a source's section `encoder` or `objective` on an option, (class, option)."""
    chosen = by_name({node: {}} if isinstance(node, str) else node if isinstance(node, dict) else {key: {} for key in node})
    if keys[0] not in chosen:
        return Effect.RESETS if section == "encoder" else Effect.NOTHING
    options = chosen[keys[0]]
    return Effect.RESETS if options is None else Effect.SETS if set(keys[1:]) <= set(options) else Effect.NOTHING


def of_change(node: Any, keys: Keys) -> Effect:
    """Return the effect of changed keys on a value; a list replaces all its elements."""
    if not keys:
        return Effect.SETS
    if not isinstance(node, dict):
        return of_new(node, keys)
    named = by_name(node)
    if keys[0] in named:
        return of_change(named[keys[0]], keys[1:])
    return Effect.SETS if len(keys) == 2 and keys[1] in named else Effect.NOTHING  # views.0.augment.2.share, without the class


def of_new(node: Any, keys: Keys) -> Effect:
    """Return the effect of a new list, or of an element of one, on a value in it: omitted values have the default."""
    if not keys:
        return Effect.SETS
    if isinstance(node, list):
        node = dict(enumerate(node))
    named = by_name(node) if isinstance(node, dict) else {}
    return of_new(named[keys[0]], keys[1:]) if keys[0] in named else Effect.RESETS


def by_name(node: dict[Any, Any]) -> dict[str, Any]:
    """Return a mapping with its keys as text; references FILE:Class are replaced by the class name."""
    return {str(key).rpartition(":")[2]: value for key, value in node.items()}
