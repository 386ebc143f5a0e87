"""Print a resolved config as YAML: each key with the origin of its value, its meaning, unit and range as a comment.

python -m hear_ssl.training.show_config simclr data.batch_size=256
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from hear_ssl.errors import printable, run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path
from hear_ssl.model.options import Part
from hear_ssl.training.config_origin import Origins
from hear_ssl.training.config_sources import read_sources
from hear_ssl.version import __version__

COLUMN = 44  # of the comments
HEAD = "# After each key: where its value came from, what it means, [its unit and range]."
MEANINGS = {"views": "a crop each, with augmentations in this order", "crop": "crop of data.crops that the view shows, counted from 0"}
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A value of the page and its comment; the value is a scalar, a list of scalars, or Nodes by key or in a list."""

    value: Any
    comment: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and print the config."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl config",
        formatter_class=HelpText,
        description="Print the resolved config of a recipe as YAML that can be trained, and of each value where it came from, what it"
        " means, its unit and its range. Without a recipe: the defaults.",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="name of a recipe, such as simclr, or path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a config key, such as trainer.steps=500")
    parser.add_argument("--changed", action="store_true", help="only what differs from the defaults")
    given = parser.parse_intermixed_args(arguments)
    path, overrides = given.recipe, list(given.overrides)
    if path and "=" in path and not Path(path).is_file():
        path, overrides = None, [path, *overrides]
    print("\n".join(config_lines(user_path(path) if path else None, overrides, given.changed)))


def config_lines(path: str | Path | None, overrides: list[str], changed: bool = False) -> list[str]:
    """Return the lines of a resolved config as YAML with comments; with `changed` only what differs from the defaults.

    Credentials of addresses are left out. Raises what `load_config` raises.
    """
    from hear_ssl.training.config import whole_config  # loads torch
    from hear_ssl.training.places import without_credentials

    sources = read_sources(path, overrides)
    origins, config = Origins(sources), without_credentials(whole_config(sources))
    title = f"# hear_ssl {__version__}: {path or 'defaults'}"
    files = [f"# {label}: {printable(file)}" for label, file in origins.files.items()]
    node = Describe(origins, whole_config([]) if changed else None).group(config, ())
    width = f"<{COLUMN}"
    return [title, *files, HEAD, *(f"{text:{width}}  # {comment}" if comment else text for text, comment in lines(node))]


class Describe:
    """Convert a config to Nodes, without values that equal the defaults if these are given."""

    def __init__(self, origins: Origins, defaults: Any = None) -> None:
        self.origins, self.defaults = origins, defaults

    def group(self, options: Any, keys: Keys) -> Node:
        """Return the keys of a dataclass of settings."""
        found = {}
        for item in fields(options):
            value, place = getattr(options, item.name), (*keys, item.name)
            if value != {} and (self.defaults is None or value != of_path(self.defaults, place)):  # {}: no objective is named
                found[item.name] = self.value(item, value, place)
        return Node(found, sentence(type(options)) if keys else "")

    def value(self, item: Field[Any], value: Any, keys: Keys) -> Node:
        """Return the value of a key."""
        if isinstance(value, Part):  # the encoder
            return self.part(value, keys)
        if isinstance(value, dict):  # the objectives
            return Node({key: node for part in value.values() for key, node in self.part(part, keys).value.items()}, "their weighted sum")
        if is_dataclass(value):
            return self.group(value, keys)
        if isinstance(value, (list, tuple)) and any(is_dataclass(element) for element in value):
            return Node([self.element(element, (*keys, str(place))) for place, element in enumerate(value)], meaning(item))
        return self.leaf(item, value, keys)

    def part(self, part: Part, keys: Keys) -> Node:
        """Return a class with its options, by its name."""
        options = {
            item.name: self.leaf(item, value, (*keys, part.name, item.name))
            for item in fields(part.options)
            if (value := getattr(part.options, item.name)) != getattr(type(part.options)(), item.name) or self.defaults is None
        }
        return Node({part.key: Node(options, sentence(part.kind))})

    def element(self, element: Any, keys: Keys) -> Node:
        """Return an element of a list: a class, or a crop or a view, which are always complete."""
        if isinstance(element, Part):
            return self.part(element, keys)
        return Node({item.name: self.value(item, getattr(element, item.name), (*keys, item.name)) for item in fields(element)})

    def leaf(self, item: Field[Any], value: Any, keys: Keys) -> Node:
        """Return a scalar or a list of scalars with its origin and meaning."""
        return Node(list(value) if isinstance(value, tuple) else value, "; ".join(filter(None, (self.origins.of(*keys), meaning(item)))))


def of_path(value: Any, keys: Keys) -> Any:
    """Return the value of a dataclass at dotted keys."""
    for key in keys:
        value = getattr(value, key)
    return value


def sentence(kind: type[Any]) -> str:
    """Return the first line of the docstring of a class."""
    return (kind.__doc__ or "").strip().split("\n")[0].rstrip(".")


def meaning(item: Field[Any]) -> str:
    """Return the meaning of an option, with its unit, range and choices."""
    rules = item.metadata
    if "help" not in rules:
        return MEANINGS.get(item.name, "")
    low, high = (None if rules[bound] is None else f"{rules[bound]:.12g}" for bound in ("low", "high"))
    span = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""
    allowed = "one of " + ", ".join(map(str, rules["choices"])) if rules["choices"] else span
    bounds = ", ".join(filter(None, (rules["unit"], allowed)))
    return " ".join(f"{rules['help']}{f' [{bounds}]' if bounds else ''}".split())


def type_name(hint: Any) -> str:
    """Return the type of an option as text, such as list[str]."""
    plain = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else re.sub(r"\w+\.", "", str(hint))
    return str(plain).replace(" | ", " or ")


def default_text(item: Field[Any]) -> str:
    """Return the default of an option as YAML; nothing for an empty text."""
    default = item.default if item.default_factory is MISSING else item.default_factory()
    if isinstance(default, (list, tuple)):
        default = [vars(one) if is_dataclass(one) else one for one in default]
    return scalar(default) if default != "" else ""


def lines(node: Node, indent: str = "", first: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield the lines of YAML with their comments; `first` begins the first of them."""
    if isinstance(node.value, list):
        for element in node.value:
            yield from lines(element, indent + "  ", indent + "- ")
        return
    for key, child in node.value.items():
        begin = f"{indent if first is None else first}{scalar(key)}:"
        first = None
        if child.value and (isinstance(child.value, dict) or (isinstance(child.value, list) and isinstance(child.value[0], Node))):
            yield begin, child.comment
            yield from lines(child, indent + "  ")
        else:
            yield f"{begin} {scalar(child.value)}", child.comment


def scalar(value: Any) -> str:
    """Return a scalar, or a list of scalars, as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    run_main(main)
