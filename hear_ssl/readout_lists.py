"""The readouts of a config or of `hear-ssl package --set`: the lists `scene` and `timestamp`, and changes of their elements.

An element is a name, or {name: options}; a user's class is path/to/file.py:Class. A list replaces the previous one. One element is
changed by scene.0.how=mean, which sets an option of the first element, or by scene.0=bands, which replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, get_origin, get_type_hints

from hear_ssl.errors import nearest
from hear_ssl.model.embedder_config import KINDS, EmbedderConfig, readouts_of
from hear_ssl.model.options import NoOptions, Part, from_mapping, options_of
from hear_ssl.model.parts import check_signature
from hear_ssl.model.readouts import OFFERED, READOUTS, Readout
from hear_ssl.part_files import absolute, is_reference, load_part, moved
from hear_ssl.part_imports import check_imports

REPLACED = {  # keys of earlier versions, and their replacements
    "layers": "scene.0.layers=last",
    "pooling": "scene.0.how=mean",
    "raw_mel": "scene=[pooled,bands] or timestamp=[tokens,frames]",
    "per_token": "timestamps_per_token=2",
    "contexts_ms": "timestamp=[tokens,{contexts: {ms: [200]}}]",
    "around_ms": "timestamp=[tokens,{around: {ms: [100,300]}}]",
    "reduction": "a `linear` readout, which hear-ssl package --linear fits",
}


class Source(Protocol):
    """Keys from one source. where: its name in errors. folders: where to search for the files of a user's classes."""

    @property
    def where(self) -> str:
        """Return its name in errors."""

    @property
    def mapping(self) -> dict[Any, Any]:
        """Return the keys as nested data."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders."""


@dataclass
class Element:
    """One readout of a list: its key, its options, and for each option the source that set it."""

    key: str
    where: str
    options: dict[str, Any] = field(default_factory=dict)
    set_by: dict[str, str] = field(default_factory=dict)

    def update(self, options: dict[str, Any], where: str) -> None:
        """Set options."""
        self.options.update(options)
        self.set_by.update(dict.fromkeys(options, where))


class ReadoutLists:
    """The readouts selected by several sources, applied one after another; see `Selection` for `resuming`."""

    def __init__(self, resuming: bool = False, lists: dict[str, tuple[Part, ...]] | None = None) -> None:
        """Begin with the given readouts, or with the defaults."""
        self.resuming = resuming
        lists = lists or {kind: getattr(EmbedderConfig(), kind) for kind in KINDS}
        self.given = {part.key: part for parts in lists.values() for part in parts}
        self.lists = {kind: [element_of(part) for part in parts] for kind, parts in lists.items()}

    def add(self, source: Source) -> None:
        """Apply the lists and the changes of a source. Raises ValueError that names it when one has another form or an unknown name."""
        for kind in KINDS:
            if kind not in source.mapping:
                continue
            value = source.mapping[kind]
            if isinstance(value, str):
                value = [value]
            if isinstance(value, list):
                self.lists[kind] = [self.element(kind, place, element, source) for place, element in enumerate(value)]
            elif isinstance(value, dict) and value and all(str(place).isdigit() for place in value):
                for place, change in value.items():
                    self.change(kind, int(place), change, source)
            else:
                raise ValueError(f"{source.where}: {wrong_form(kind, value)}")
            if not self.lists[kind]:
                raise ValueError(f"{source.where}: {kind} is an empty list; name at least one readout, such as {kind}={first_of(kind)}")

    def element(self, kind: str, place: int, value: Any, source: Source) -> Element:
        """Return the element of a list. Raises ValueError when it has another form, or there is no such readout."""
        value = {value: {}} if isinstance(value, str) else value
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"{source.where}: {kind}.{place} is {value!r:.60}; give a name, or one name with its options")
        ((given, options),) = value.items()
        if not isinstance(options, dict):
            raise ValueError(f"{source.where}: {kind}.{place}.{given} is {options!r:.60}; give options by name, or {{}} for the defaults")
        element = Element(self.known(kind, place, str(given), source), source.where)
        element.update(options, source.where)
        return element

    def change(self, kind: str, place: int, value: Any, source: Source) -> None:
        """Set options of one element, or replace it. Raises ValueError when there is no such element."""
        elements = self.lists[kind]
        if place >= len(elements):
            there = ", ".join(f"{kind}.{number} is {name_of(element.key)}" for number, element in enumerate(elements))
            raise ValueError(f"{source.where}: {kind} has no element {place}: {there}; to add one give the whole list")
        element = elements[place]
        names = [*readouts_of(kind), name_of(element.key)]
        if isinstance(value, dict) and list(value) == [name_of(element.key)] and isinstance(value[name_of(element.key)], dict):
            element.update(value[name_of(element.key)], source.where)
        elif isinstance(value, str) or (isinstance(value, dict) and any(str(key) in names or is_reference(str(key)) for key in value)):
            elements[place] = self.element(kind, place, value, source)
        elif isinstance(value, dict) and value:
            element.update({str(name): option for name, option in value.items()}, source.where)
        else:
            raise ValueError(f"{source.where}: {kind}.{place} is {value!r:.60}; set an option of it, or give the whole list")

    def known(self, kind: str, place: int, given: str, source: Source) -> str:
        """Return the key for a given name. Raises ValueError when there is no such readout."""
        if is_reference(given):
            key = absolute(given, source.folders)
            if name_of(key) in READOUTS:
                raise ValueError(f"{source.where}: {given} has the name of one of hear_ssl's own classes; rename the class")
            return key
        own = {name_of(element.key): element.key for elements in self.lists.values() for element in elements if is_reference(element.key)}
        names = [*readouts_of(kind), *own]
        if given in names:
            return own.get(given, given)
        other = next(one for one in KINDS if one != kind)
        hint = f", which only {other} can have" if given in readouts_of(other) else nearest(given, names)
        raise ValueError(f"{source.where}: {kind}.{place} is {given!r:.80}{hint}; it can be {', '.join(names)} or path/to/file.py:Class")

    def plain(self) -> dict[str, list[dict[str, Any]]]:
        """Return the lists as plain data, each element as {name: options}."""
        return {kind: [{name_of(element.key): element.options} for element in elements] for kind, elements in self.lists.items()}

    def parts(self, resolved: dict[str, list[dict[str, Any]]] | None = None) -> dict[str, tuple[Part, ...]]:
        """Return the readouts by list, with the options in `resolved`, which has the form of `plain`.

        Raises ValueError when the file of a user's class cannot be imported, two classes have the same name, or an option is unknown, of
        another type or out of range.
        """
        keys: dict[str, str] = {}
        found: dict[str, tuple[Part, ...]] = {}
        values = resolved or self.plain()
        for kind, elements in self.lists.items():
            parts = []
            for place, element in enumerate(elements):
                name = name_of(element.key)
                if keys.setdefault(name, element.key) != element.key:
                    raise ValueError(f"{element.where}: {element.key} and {keys[name]} have the same class name; rename one of the classes")
                parts.append(self.part(kind, place, element, values[kind][place][name]))
            found[kind] = tuple(parts)
        return found

    def part(self, kind: str, place: int, element: Element, options: dict[str, Any]) -> Part:
        """Return one readout with its options. Raises what `parts` raises."""
        key = moved(element.key) if self.resuming and is_reference(element.key) else element.key
        part = self.given[key] if key in self.given else default_readout(key)
        if kind not in part.kind.kinds:
            raise ValueError(f"{element.where}: {kind}.{place} is {part.name}, which is for {' and '.join(part.kind.kinds)}, see its kinds")
        hints, values = get_type_hints(type(part.options)), dict(options)
        for name, value in options.items():
            if get_origin(hints.get(name)) in (list, tuple) and not isinstance(value, (list, tuple, str)):
                values[name] = [value]
            if hints.get(name) is str and isinstance(value, (int, float)) and not isinstance(value, bool):
                values[name] = str(value)  # the name of a layer
            try:
                from_mapping(type(part.options), {name: values[name]}, f"{kind}.{place}.{part.name}")
            except ValueError as error:
                raise ValueError(f"{element.set_by.get(name, element.where)}: {error}") from None
        return replace(part, options=from_mapping(type(part.options), values, f"{kind}.{place}.{part.name}"))


def default_readout(key: str) -> Part:
    """Return the readout for a key with its default options.

    Raises ValueError when the file of a user's class cannot be imported, has no such class, or has one that a config cannot select.
    """
    if not is_reference(key):
        return Part(key, READOUTS[key], options_of(READOUTS[key])())
    file = load_part(key, Readout)
    check_imports(file.path, file.source)  # because a wheel will contain it
    try:
        options = options_of(file.kind)
        for item in fields(options):
            if item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"Options.{item.name} has no default; declare it as {item.name}: float = option(0.5, 'meaning')")
        check_signature(file.kind, OFFERED if file.kind.maps_before else OFFERED[:-1])
        if not set(file.kind.kinds) <= set(KINDS) or isinstance(file.kind.kinds, str) or not file.kind.kinds:
            raise ValueError(f"{file.kind.__name__}.kinds is {file.kind.kinds!r}; it must be a tuple of {' and '.join(map(repr, KINDS))}")
        return Part(key, file.kind, options(), file.sha256)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None


def readout_keys(lists: Mapping[str, tuple[Part, ...]]) -> dict[str, tuple[Any, Field[Any]]]:
    """Return the options of all our readouts, and of a user's readouts in the lists, as NAME.OPTION, each with its type and field."""
    kinds = {**READOUTS, **{part.name: part.kind for parts in lists.values() for part in parts}}
    options = {name: options_of(kind) for name, kind in kinds.items()}
    return {f"{name}.{item.name}": (get_type_hints(kind)[item.name], item) for name, kind in options.items() for item in fields(kind)}


def name_of(key: str) -> str:
    """Return the short name of a key: one of our names, or the class in a reference to a file."""
    return key.rpartition(":")[2]


def element_of(part: Part) -> Element:
    """Return a readout as the element of a list."""
    options = {} if isinstance(part.options, NoOptions) else dict(vars(part.options))
    return Element(part.key, "config", options)


def first_of(kind: str) -> str:
    """Return the name of the first readout of scenes or of timestamps."""
    return next(iter(readouts_of(kind)))


def wrong_form(kind: str, value: Any) -> str:
    """Return what is wrong with a value that is neither a list nor changes of elements."""
    key = str(next(iter(value))) if isinstance(value, dict) and value else ""
    if key in REPLACED:
        return f"there is no config key '{kind}.{key}'; {kind} is a list of readouts, see docs/extend.md: {REPLACED[key]}"
    given = f"{kind}.{key} has no number" if key else f"{kind} is {value!r:.60}"
    return f"{given}; give a list of readouts, such as {kind}=[{first_of(kind)}], or change one as {kind}.0.OPTION=VALUE"
