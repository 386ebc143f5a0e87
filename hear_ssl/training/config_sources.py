"""Read the sources of a config, a YAML file and `key=value` arguments, as plain data. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hear_ssl.addresses import redacted
from hear_ssl.training.recipes import recipe_path
from hear_ssl.training.settings import settings_keys
from hear_ssl.training.spelling import is_text, read_yaml, text_value
from hear_ssl.version import __version__

REFERENCE = re.compile(r"\$\{[\w.\[\]-]+\}")  # to another key: ${name}, ${.seed}, ${data[shards]}
DEEPEST, MOST_VALUES = 50, 100_000
BASE = "base"  # the key of a YAML file that names the recipe it changes
VERSION_LINE = "# hear_ssl "  # begins the config.yaml of a run; the version follows


@dataclass(frozen=True)
class Source:
    """Keys from one source. where: its name in errors. folders: where to search for the files of a user's classes.

    file: the YAML file with the keys, if there is one.
    """

    where: str
    mapping: dict[Any, Any]
    folders: tuple[Path, ...] = ()
    file: Path | None = None


def read_sources(path: str | Path | None, overrides: list[str]) -> list[Source]:
    """Return the keys of a YAML file's bases, of the file itself, if one is given, and of `key=value` arguments, in this order.

    path: a YAML file, or the name of a recipe. Raises ValueError for a file that is missing or not YAML, for bases that form a cycle,
    and for an argument of another form.
    """
    sources = [] if path is None else with_bases(_file(recipe_path(path)))
    return sources + _arguments(overrides)


def with_bases(source: Source) -> list[Source]:
    """Return the chain of recipes that the keys `base` name, the one without a base first, then the source, all without that key.

    A base is the name of a recipe, or a path relative to the file with the key. Raises what `read_sources` raises.
    """
    chain = [source]
    while (given := chain[0].mapping.get(BASE)) is not None:
        first = chain[0]
        if not isinstance(given, str):
            raise ValueError(f"{first.where}: base is {given!r:.60}; give the name of one recipe or the path of one YAML file")
        try:
            path = recipe_path(given, first.folders[0] if first.folders else None)
        except ValueError as error:
            raise ValueError(f"{first.where}: base: {error}") from None
        names = [str(one.file or one.where) for one in chain]
        if any(one.file and one.file.samefile(path) for one in chain):
            raise ValueError(f"config {path}: its bases lead back to itself: {' <- '.join([str(path), *names])}; remove one of them")
        chain.insert(0, _file(path))
    return [replace(one, mapping={key: value for key, value in one.mapping.items() if key != BASE}) for one in chain]


def _arguments(overrides: list[str]) -> list[Source]:
    return [Source(override, _parse(override), (Path.cwd(),)) for override in overrides]


def run_sources(run: Path, overrides: list[str]) -> list[Source]:
    """Return the keys stored in a run folder, which have no base, and those of `key=value` arguments.

    Raises ValueError when it is not a run folder, or one of a version whose runs cannot be resumed.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{run} is not a run folder: it has no config.yaml; give the folder that hear-ssl fit printed")
    with open(path, "rb") as file:
        line = file.readline().decode("utf-8", "replace").strip()
    version = line[len(VERSION_LINE) :] if line.startswith(VERSION_LINE) else ""
    if version.split(".")[:2] != __version__.split(".")[:2]:
        raise ValueError(of_old_version(run, version))
    kept = _file(path)
    check_no_commands(kept, overrides)
    return [kept, *_arguments(overrides)]


def check_no_commands(kept: Source, overrides: list[str]) -> None:
    """Raise ValueError when a run folder has commands in data.shards: only a given config or command line may name commands to run."""
    data = kept.mapping.get("data")
    shards = data.get("shards") if isinstance(data, dict) else None
    commands = [entry for entry in shards if str(entry).startswith("pipe:")] if isinstance(shards, list) else []
    if commands and not any(override.startswith("data.shards=") for override in overrides):
        raise ValueError(
            f"{kept.where} reads shards from a command ({redacted(str(commands[0])):.60}), which a run folder alone does not execute; give"
            """ data.shards='["pipe:COMMAND"]' again after --resume"""
        )


def of_old_version(run: Path, version: str) -> str:
    """Return the error for resuming a run of an earlier version."""
    version = version or "0.1.0"
    return (
        f"{run} was trained by hear_ssl {version}, this is {__version__}: it can be evaluated and packaged, but only version {version}"
        " resumes it; start a new run instead"
    )


def _file(path: Path) -> Source:
    try:
        check_depth(path.read_text(encoding="utf-8"))
        types = {key: hint for key, (hint, _) in settings_keys().items()}
        mapping = OmegaConf.to_container(read_yaml(path, types), resolve=False)
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"config {path} is not YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(mapping, dict):
        raise ValueError(f"config {path} is a list; it must be keys with values, such as seed: 1")
    check_references(mapping, f"config {path}")
    return Source(str(path), mapping, (path.resolve().parent, Path.cwd()), path)


def _parse(override: str) -> dict[Any, Any]:
    key, equals, given = override.partition("=")
    if not equals or not key:
        raise ValueError(f"{override!r} is not of the form key=value, such as trainer.steps=100")
    if "/" in key:
        raise ValueError(f"{override!r} has a file in its key; select the class by objective=FILE.py:Class, then use its name in keys")
    if key == BASE:
        raise ValueError(f"{override!r}: base is for a YAML file; give the recipe as the config itself, and what differs as key=value")
    hint = settings_keys().get(key, (None,))[0]
    try:
        check_depth(given.strip())
        parsed = OmegaConf.from_dotlist([] if is_text(hint) else [override])
        if is_text(hint):
            OmegaConf.update(parsed, key, text_value(given, hint))
        mapping = OmegaConf.to_container(parsed, resolve=False)
        value = reduce(lambda node, name: node[name], key.split("."), mapping)
        if hint and value in (None, "???") and type(None) not in get_args(hint):
            raise ValueError(f"{override!r} gives no value; leave {key} out for its default")
        if get_origin(hint) in (list, tuple) and not isinstance(value, list):
            OmegaConf.update(parsed, key, [value])
    except (KeyError, TypeError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{override[:200]!r} cannot be read ({reason}); put a value that is plain text in quotes of its own") from None
    mapping = OmegaConf.to_container(parsed, resolve=False)
    assert isinstance(mapping, dict)
    check_references(mapping, repr(override[:200]))
    return mapping


def check_depth(text: str) -> None:
    """Raise YAMLError when YAML is nested so deeply that libyaml could overflow the stack, or its aliases expand too far."""
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # the anchor of each and the values in it so far
    values: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > DEEPEST:
                raise YAMLError(f"nested deeper than {DEEPEST} levels")
            continue
        anchor, count = None, 0
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, count = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            count = values.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, count = event.anchor, 1
        values[anchor] = count
        open_nodes[-1] = (open_nodes[-1][0], open_nodes[-1][1] + count)
        if open_nodes[-1][1] > MOST_VALUES:
            raise YAMLError(f"more than {MOST_VALUES} values, those of its aliases counted")


def check_references(mapping: Any, where: str) -> None:
    """Raise ValueError when a text contains ${...} that is not a reference to another key.

    OmegaConf would resolve it, such as ${oc.env:NAME} from the environment, and the result would be stored with the config.
    """
    for text in _texts(mapping):
        rest, count = text, 1
        while count:
            rest, count = REFERENCE.subn("key", rest)  # inner references first: ${optimizer.${name}}
        if "${" in rest or "\\${" in text:
            raise ValueError(
                f"{where}: {text[:80]!r} is refused: only references to other keys are allowed in a config, such as ${{name}}; write the"
                " value itself, and keep what is secret out of a config, because it is stored with the run"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, element in value.items():
            yield from _texts(key)
            yield from _texts(element)
    elif isinstance(value, list):
        for element in value:
            yield from _texts(element)
