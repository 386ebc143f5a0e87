"""Read a config: defaults <- YAML file <- `key=value` arguments.

An unknown key, a wrong type or a value out of range raises ValueError with the nearest valid name. Keys outside encoder, objective and
readouts can be read without torch, so that a command can use them before it imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from hear_ssl.errors import nearest
from hear_ssl.model.options import Part, check_ranges
from hear_ssl.training.config_sources import Source, check_references, read_sources, run_sources
from hear_ssl.training.settings import CLASSES, LISTS, PARTS, Config, settings_keys

__all__ = ["Config", "load_config", "plain_config", "resumed_config", "whole_config"]

Selected = dict[str, dict[str, Part]]  # by section and name


def load_config(path: str | Path | None, overrides: list[str]) -> Config:
    """Return the Config of a YAML file (none: the defaults) with `key=value` overrides on top.

    Raises ValueError with one line for a file that is missing or not YAML, an unknown key, a wrong type, a value out of range, and
    for an objective that requires what the config does not provide.
    """
    return whole_config(read_sources(path, overrides))


def resumed_config(run: Path, overrides: list[str]) -> Config:
    """Return the config stored in a run folder, with `key=value` overrides on top.

    Raises ValueError when it is not a run folder, or one of another version, and for what `load_config` raises.
    """
    return whole_config(run_sources(run, overrides), resuming=True)


def plain_config(sources: Sequence[Source]) -> Config:
    """Return the Config without encoder, objective and readouts, which stay empty; needs no torch."""
    return _config(_merged(sources, {}, []))


def whole_config(sources: Sequence[Source], resuming: bool = False) -> Config:
    """Return the complete, checked Config of sources; see `load_config`."""
    from hear_ssl.readout_lists import ReadoutLists  # loads torch
    from hear_ssl.training.config_parts import Selection
    from hear_ssl.training.config_views import ViewSelection
    from hear_ssl.training.requirements import check_requirements

    selection, views, readouts = Selection(resuming), ViewSelection(), ReadoutLists(resuming)
    for source in sources:
        selection.add(source)
        views.add(source)
        readouts.add(source)
    parts = selection.parts()
    merged = _merged(sources, parts, selection.changes)
    with read_write(merged), open_dict(merged):
        for kind, elements in readouts.plain().items():
            merged[kind] = elements
    try:
        _unlock(merged)
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:  # a reference such as ${name} that leads nowhere
        raise ValueError(_one_line(sources, error)) from None
    check_references(OmegaConf.to_container(merged, resolve=False), "config")  # what references have put together
    chosen = {
        section: {name: replace(part, options=OmegaConf.to_object(merged[section][name])) for name, part in parts[section].items()}
        for section in PARTS
    }
    lists = readouts.parts({kind: OmegaConf.to_container(merged[kind]) for kind in LISTS})  # type: ignore[misc]
    with read_write(merged), open_dict(merged):
        for section in PARTS + LISTS:
            merged.pop(section)
    (encoder,) = chosen["encoder"].values()
    config = replace(_config(merged), encoder=encoder, objective=chosen["objective"], **lists)  # type: ignore[arg-type]
    config = replace(config, views=views.configs(sum(crops.count for crops in config.data.crops), config.frontend.sample_rate))
    check_ranges(config)
    check_requirements(config)
    check_names(config)
    return config


def check_names(config: Config) -> None:
    """Raise ValueError when two of the user's classes that ship have the same name, by which a manifest lists them."""
    keys: dict[str, str] = {}
    for part in config.embedder.own():
        if part.sha256 and keys.setdefault(part.name, part.key) != part.key:
            raise ValueError(f"{part.key} and {keys[part.name]} have the same class name; rename one of the classes")


def _merged(sources: Sequence[Source], parts: Selected, changes: Sequence[Mapping[str, Any]]) -> DictConfig:
    """Return the typed tree of all keys, including the options of the selected parts."""
    merged = OmegaConf.structured(Config)
    with read_write(merged), open_dict(merged):
        for section, selected in parts.items():
            merged[section] = {name: OmegaConf.structured(part.options) for name, part in selected.items()}
    for index, source in enumerate(sources):
        plain: dict[Any, Any] = {key: value for key, value in source.mapping.items() if key not in CLASSES}
        if parts:
            plain |= {section: _listed(parts[section], options) for section, options in changes[index].items() if options}
        try:
            plain = _with_whole_lists(merged, plain)
            merged = OmegaConf.unsafe_merge(merged, OmegaConf.create(plain))  # copies neither; both are ours
        except ConfigKeyError as error:
            key = error.full_key or str(error.key)
            raise ValueError(
                f"{source.where}: there is no config key {key!r}{_nearest_key(key, parts)}; hear-ssl fit --help lists them all"
            ) from None
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            key = getattr(error, "full_key", None) or "a group of keys cannot be one value, nor a list hold keys"
            raise ValueError(f"{source.where}: {key}: {str(error).splitlines()[0]}") from None
    assert isinstance(merged, DictConfig)
    return merged


def _with_whole_lists(merged: Any, changes: dict[Any, Any]) -> dict[Any, Any]:
    """Return changes in which changed list elements, such as {crops: {0: {seconds: 1}}}, are replaced by the complete changed list.

    Raises ValueError when the list has no such element.
    """
    whole = dict(changes)
    for key, value in changes.items():
        node = merged.get(key) if isinstance(merged, DictConfig) and key in merged else None
        if isinstance(node, ListConfig) and isinstance(value, dict):
            elements = OmegaConf.to_container(node, resolve=False)
            assert isinstance(elements, list)
            for place, change in value.items():
                if not str(place).isdigit() or int(place) >= len(elements):
                    raise ValueError(f"there is no element {place} of {len(elements)}, numbered from 0")
                old = elements[int(place)]
                elements[int(place)] = {**old, **change} if isinstance(old, dict) and isinstance(change, dict) else change
            whole[key] = elements
        elif isinstance(node, DictConfig) and isinstance(value, dict):
            whole[key] = _with_whole_lists(node, value)
    return whole


def _unlock(node: Any) -> None:
    """Make a tree of frozen dataclasses writable, so that references in it can be resolved."""
    if isinstance(node, (DictConfig, ListConfig)) and isinstance(node._content, (dict, list)):
        OmegaConf.set_readonly(node, False)
        for element in node._content.values() if isinstance(node._content, dict) else node._content:
            _unlock(element)


def _listed(parts: Mapping[str, Part], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changed options in which the single value of a list option is a list with one element."""
    from hear_ssl.training.config_parts import hints_of

    listed: dict[str, Any] = {}
    for name, options in changes.items():
        hints = hints_of(parts[name])
        listed[name] = {
            key: [value] if get_origin(hints.get(key)) in (list, tuple) and not isinstance(value, (list, str)) else value
            for key, value in options.items()
        }
    return listed


def _config(merged: DictConfig) -> Config:
    """Return the Config of a typed tree without parts, after a check of its ranges."""
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(" ".join(str(error).split())[:160]) from None
    assert isinstance(config, Config)
    for key in settings_keys():
        value = attrgetter(key)(config)
        if isinstance(value, (list, tuple)) and any(isinstance(element, (list, dict)) for element in value):
            raise ValueError(f"{key} is {value}; give a plain list, such as {key}=[a,b]")
    return config


def _one_line(sources: Sequence[Source], error: Exception) -> str:
    return f"{sources[0].where if sources else 'config'}: {' '.join(str(error).split())[:160]}"


def _nearest_key(key: str, parts: Selected) -> str:
    """Return ' (did you mean ...?)' for an unknown key; imports torch, which is acceptable for an error."""
    from hear_ssl.training.config_parts import config_keys

    if key.partition(".")[0] == "embedder":
        return "; the keys under it are frontend, encoder, scene, timestamp and chunk_frames at the top level"
    known = list(config_keys(parts))
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    return f" (did you mean {same_leaf[0]!r}?)" if same_leaf else nearest(key, known)
