"""Dotted keys of a config, to compare it with another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def dotted_keys(config: dict[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """Return the values of sections by dotted keys, with short names for a user's classes; a list of readouts is one value."""
    keys: dict[str, Any] = {}

    def add(value: Any, prefix: str) -> None:
        if isinstance(value, dict) and value:
            for name, element in value.items():
                add(element, f"{prefix}.{str(name).rpartition(':')[2]}")
        elif isinstance(value, list) and all(isinstance(element, dict) for element in value):  # readouts
            keys[prefix] = [{str(key).rpartition(":")[2]: options for key, options in element.items()} for element in value]
        else:
            keys[prefix] = list(value) if isinstance(value, tuple) else value

    for section in sections:
        add(config.get(section), section)
    return keys
