"""Encoders, objectives and augmentations in a config: the classes that it selects, and their config keys.

A class is selected by its short name, or as path/to/file.py:Class if it is a user's own. `encoder` with another name replaces the
encoder and its options; `objective` merges by name, and null removes a term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hear_ssl.errors import nearest
from hear_ssl.model.encoders import ENCODERS, Encoder
from hear_ssl.model.options import Part, options_of
from hear_ssl.model.parts import check_signature
from hear_ssl.objectives import OBJECTIVES, Objective
from hear_ssl.objectives.base import options_with_weight
from hear_ssl.part_files import absolute, is_reference, load_part, moved
from hear_ssl.part_imports import check_imports
from hear_ssl.training.config_sources import Source
from hear_ssl.training.settings import PARTS, settings_keys
from hear_ssl.views import AUGMENTATIONS, Augmentation

OURS: dict[str, Mapping[str, type[Any]]] = {"encoder": ENCODERS, "objective": OBJECTIVES, "augment": AUGMENTATIONS}
BASES: dict[str, type[Any]] = {"encoder": Encoder, "objective": Objective, "augment": Augmentation}
OFFERED = {
    "encoder": ("n_mels",),
    "objective": ("dim", "token_hop_ms"),
    "augment": ("sample_rate", "frontend", "crop_samples", "crop_frames"),
}  # to __init__, apart from the options
ANY_VIEW = "views.*.augment.*."  # where the options of an augmentation are
DEFAULT_ENCODER = "audio_ntt"
Keys = dict[str, tuple[Any, Field[Any]]]


@dataclass
class Selection:
    """The classes selected by several sources, applied one after another.

    resuming: whether a reference to a file is the new location of a class that was selected before. changes: the options set by each
    source, by section and name.
    """

    resuming: bool = False
    keys: dict[str, list[str]] = field(default_factory=lambda: {"encoder": [DEFAULT_ENCODER], "objective": []})
    changes: list[dict[str, dict[str, Any]]] = field(default_factory=list)

    def add(self, source: Source) -> None:
        """Apply the sections `encoder` and `objective` of a source.

        Raises ValueError that names the source when a section has another form, or a name is unknown or given twice.
        """
        change: dict[str, dict[str, Any]] = {section: {} for section in PARTS}
        self.changes.append(change)
        for section in PARTS:
            if section not in source.mapping:
                continue
            for given, options in named(source.mapping[section], section, source.where).items():
                key = self.known(section, given, source)
                if options is None and section == "objective":
                    self.remove(section, key)
                elif isinstance(options, dict):
                    self.choose(section, key, source.where)
                    change[section][name_of(key)] = options
                else:
                    raise ValueError(
                        f"{source.where}: {section}.{given} is {options!r:.60}; give options by name, or {{}} for the defaults"
                    )

    def known(self, section: str, given: str, source: Source) -> str:
        """Return the key for a given name. Raises ValueError when there is no such class."""
        own = {name_of(key): key for key in self.keys[section] if is_reference(key)}
        return own[given] if given in own else known_key(section, given, source, tuple(own))

    def choose(self, section: str, key: str, where: str) -> None:
        """Select a class. Raises ValueError when another file's objective of that name is selected."""
        names = [name_of(one) for one in self.keys[section]]
        if key in self.keys[section]:
            return
        if name_of(key) in names and self.resuming:
            self.keys[section][names.index(name_of(key))] = key
            return
        if section == "encoder":
            self.remove(section, *self.keys[section])
        elif name_of(key) in names:
            before = self.keys[section][names.index(name_of(key))]
            raise ValueError(f"{where}: {key} and {before} have the same class name; rename one of the classes")
        self.keys[section].append(key)

    def remove(self, section: str, *keys: str) -> None:
        """Remove classes, and the options that earlier sources set for them."""
        for key in keys:
            self.keys[section] = [one for one in self.keys[section] if one != key]
            for change in self.changes:
                change[section].pop(name_of(key), None)

    def parts(self) -> dict[str, dict[str, Part]]:
        """Return the selected classes by section and name, with default options: objectives of ours first, in a fixed order.

        Raises ValueError when the file of a user's class cannot be imported, or has no such class.
        """
        selected: dict[str, dict[str, Part]] = {}
        for section, keys in self.keys.items():
            order = [*OURS[section], *keys]
            keys = [moved(key) if self.resuming and is_reference(key) else key for key in sorted(keys, key=order.index)]
            selected[section] = {name_of(key): default_part(section, key) for key in keys}
        return selected


def known_key(section: str, given: str, source: Source, own: tuple[str, ...] = ()) -> str:
    """Return the key for one of our names, or for a reference to a file, with an absolute path; `own` are other names, for the error.

    Raises ValueError when there is no such class, or a user's class has the name of one of ours.
    """
    if is_reference(given):
        key = absolute(given, source.folders)
        if name_of(key) in OURS[section]:
            raise ValueError(f"{source.where}: {given} has the name of one of hear_ssl's own classes; rename the class")
        return key
    if given in OURS[section]:
        return given
    names = [*OURS[section], *own]
    hint = f"{nearest(given, names)}; it can be {', '.join(names)} or path/to/file.py:Class"
    raise ValueError(f"{source.where}: there is no {section} {given!r:.80}{option_hint(section, given) or hint}")


def name_of(key: str) -> str:
    """Return the short name of a key: one of our names, or the class in a reference to a file."""
    return key.rpartition(":")[2]


def default_part(section: str, key: str, options: Any = None) -> Part:
    """Return the class for a key, with default options unless they are given.

    Raises ValueError when the file of a user's class cannot be imported, has no such class, or has one that a config cannot select.
    """
    if not is_reference(key):
        return Part(key, OURS[section][key], options_type(section, OURS[section][key])())
    file = load_part(key, BASES[section])
    if section == "encoder":
        check_imports(file.path, file.source)  # because a wheel will contain it
    try:
        check_options(options_of(file.kind))
        check_signature(file.kind, OFFERED[section])
        return Part(key, file.kind, options or options_type(section, file.kind)(), file.sha256)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: {error}") from None


def check_options(options: type[Any]) -> None:
    """Raise ValueError when an option has no default, a type that configs do not support, or a reserved name."""
    for item in fields(options):
        if item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"Options.{item.name} has no default; declare it as {item.name}: float = option(0.5, 'meaning')")
        if item.name == "weight":
            raise ValueError("Options.weight is a key that every objective has in the sum; rename the option")
    try:
        OmegaConf.structured(options)
    except OmegaConfBaseException as error:
        raise ValueError(f"Options: {' '.join(str(error).split())[:160]}") from None


def options_type(section: str, kind: type[Any]) -> type[Any]:
    """Return the dataclass of a class's options in a config: those it declares and, for objectives, a weight."""
    return options_with_weight(kind) if section == "objective" else options_of(kind)


def hints_of(part: Part) -> dict[str, Any]:
    """Return the types of a part's options by name."""
    return get_type_hints(type(part.options))


def part_keys(section: str, name: str, kind: type[Any]) -> Keys:
    """Return the dotted keys of a class's options, with their types and fields."""
    options = options_type(section, kind)
    hints = get_type_hints(options)
    prefix = ANY_VIEW if section == "augment" else f"{section}."
    return {f"{prefix}{name}.{item.name}": (hints[item.name], item) for item in fields(options)}


def config_keys(parts: Mapping[str, Mapping[str, Part]] | None = None) -> Keys:
    """Return every dotted key of a config with its type and field: those of all our classes and of a user's classes in `parts`."""
    keys: Keys = {}
    for section in OURS:
        classes = {**OURS[section], **{name: part.kind for name, part in (parts or {}).get(section, {}).items()}}
        for name, kind in classes.items():
            keys.update(part_keys(section, name, kind))
    return {**settings_keys(), **keys}


def option_hint(section: str, given: str) -> str:
    """Return ' (did you mean ...?)' when a name is an option of one of our classes, as in encoder.dim; otherwise ''."""
    key = next((key for key in config_keys() if key.startswith(f"{section}.") and key.endswith(f".{given}")), None)
    return f" (did you mean {key!r}?)" if key else ""


def named(value: Any, section: str, where: str) -> dict[str, Any]:
    """Return a section as {name: options}. Raises ValueError when it is not of that form, or has several encoders."""
    if isinstance(value, str):
        value = {value: {}}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = {name: {} for name in value}
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where}: {section} is {value!r:.60}; name a class, such as {section}={next(iter(OURS[section]))}")
    if section == "encoder" and len(value) > 1:
        raise ValueError(f"{where}: encoder names {', '.join(map(str, value))}; name one")
    return {str(name): options for name, options in value.items()}
