"""Where the keys of a config come from: a YAML file and `key=value` arguments, read as plain data. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hear_ssl.training.settings import settings_keys
from hear_ssl.training.spelling import is_text, read_yaml, text_value
from hear_ssl.version import __version__

REFERENCE = re.compile(r"\$\{[\w.\[\]-]+\}")  # to another key: ${name}, ${.seed}, ${data[shards]}
DEEPEST, MOST_VALUES = 50, 100_000
VERSION_LINE = "# hear_ssl "  # begins the config.yaml of a run; the version follows


@dataclass(frozen=True)
class Source:
    """Keys from one place: `where` names it in errors, `folders` are searched for the files of a user's classes."""

    where: str
    mapping: dict[Any, Any]
    folders: tuple[Path, ...] = ()


def read_sources(path: str | Path | None, overrides: list[str]) -> list[Source]:
    """Return the keys of a YAML file, if one is given, and of `key=value` arguments, in this order.

    Raises ValueError with one line for a file that is missing or not YAML, and for an argument of another form.
    """
    sources = [] if path is None else [_file(Path(path))]
    return sources + [Source(override, _parse(override), (Path.cwd(),)) for override in overrides]


def run_sources(run: Path, overrides: list[str]) -> list[Source]:
    """Return the keys that a run folder keeps, and those of `key=value` arguments.

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
    return read_sources(path, overrides)


def of_old_version(run: Path, version: str) -> str:
    """Return the error for a run of an earlier version that is asked to resume."""
    version = version or "0.1.0"
    return (
        f"{run} was trained by hear_ssl {version}, this is {__version__}: it can be evaluated and packaged, but only version {version}"
        " resumes it; start a new run instead"
    )


def _file(path: Path) -> Source:
    if not path.is_file():
        raise ValueError(f"config {path} does not exist; give the path of a YAML file such as configs/base.yaml")
    try:
        check_depth(path.read_text(encoding="utf-8"))
        types = {key: hint for key, (hint, _) in settings_keys().items()}
        mapping = OmegaConf.to_container(read_yaml(path, types), resolve=False)
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"config {path} is not YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(mapping, dict):
        raise ValueError(f"config {path} is a list; it must be keys with values, such as seed: 1")
    check_references(mapping, f"config {path}")
    return Source(str(path), mapping, (path.resolve().parent, Path.cwd()))


def _parse(override: str) -> dict[Any, Any]:
    key, equals, given = override.partition("=")
    if not equals or not key:
        raise ValueError(f"{override!r} is not of the form key=value, such as trainer.steps=100")
    if "/" in key:
        raise ValueError(f"{override!r} has a file in its key; select the class by objective=FILE.py:Class, then use its name in keys")
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
    """Raise YAMLError when YAML is nested deeper than any config, at which libyaml overflows the stack, or its aliases multiply."""
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
    """Raise ValueError when a text has ${...} that is no reference to another key.

    OmegaConf would compute it, such as ${oc.env:NAME} from the environment, and the result would be stored with the config.
    """
    for text in _texts(mapping):
        rest, count = text, 1
        while count:
            rest, count = REFERENCE.subn("key", rest)  # from the inside out: ${optimizer.${name}}
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
