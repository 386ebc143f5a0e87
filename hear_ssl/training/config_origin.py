"""Where each value of a config came from: the default, a base, the recipe or file that was given, or the command line."""

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
Effect = Enum("Effect", "NOTHING SETS RESETS")  # RESETS: the value is the default again, because what has it was replaced


class Origins:
    """The origins of the values that sources resolve to."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Take the sources in the order in which they apply, see `read_sources`."""
        files = [source.file for source in sources if source.file]
        labels = {file: f"base {file.name}" for file in files[:-1]}
        labels |= {file: f"{'recipe' if file.parent == Path(str(recipes_folder())) else 'file'} {file.name}" for file in files[-1:]}
        self.files = {label: str(file) for file, label in labels.items()}
        self.sources = [(source.mapping, labels[source.file] if source.file else COMMAND_LINE) for source in sources]

    def of(self, *keys: str) -> str:
        """Return the origin of a value by its keys, numbers of list elements and short names of classes, such as views, 0, crop."""
        origin = DEFAULT
        for mapping, label in self.sources:
            effect = effect_of(mapping, keys)
            origin = label if effect is Effect.SETS else DEFAULT if effect is Effect.RESETS else origin
        return origin


def effect_of(mapping: dict[Any, Any], keys: Keys) -> Effect:
    """Return what the keys of one source do to a value."""
    section, rest = keys[0], keys[1:]
    if section not in mapping:
        return Effect.NOTHING
    return of_class(section, mapping[section], rest) if section in PARTS else of_change(mapping[section], rest)


def of_class(section: str, node: Any, keys: Keys) -> Effect:
    """Return what the section `encoder` or `objective` of a source does to an option, (class, option)."""
    chosen = by_name({node: {}} if isinstance(node, str) else node if isinstance(node, dict) else {key: {} for key in node})
    if keys[0] not in chosen:
        return Effect.RESETS if section == "encoder" else Effect.NOTHING
    options = chosen[keys[0]]
    return Effect.RESETS if options is None else Effect.SETS if set(keys[1:]) <= set(options) else Effect.NOTHING


def of_change(node: Any, keys: Keys) -> Effect:
    """Return what a change of the tree of keys does to a value in it; a list replaces all its elements."""
    if not keys:
        return Effect.SETS
    if not isinstance(node, dict):
        return of_new(node, keys)
    named = by_name(node)
    if keys[0] in named:
        return of_change(named[keys[0]], keys[1:])
    return Effect.SETS if len(keys) == 2 and keys[1] in named else Effect.NOTHING  # views.0.augment.2.share, without the class


def of_new(node: Any, keys: Keys) -> Effect:
    """Return what a new list, or an element of one, does to a value in it: what it leaves out has the default."""
    if not keys:
        return Effect.SETS
    if isinstance(node, list):
        node = dict(enumerate(node))
    named = by_name(node) if isinstance(node, dict) else {}
    return of_new(named[keys[0]], keys[1:]) if keys[0] in named else Effect.RESETS


def by_name(node: dict[Any, Any]) -> dict[str, Any]:
    """Return a mapping with its keys as text, and with the class of a reference to a file for the reference."""
    return {str(key).rpartition(":")[2]: value for key, value in node.items()}
