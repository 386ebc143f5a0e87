"""Keep the values of text keys as they were written: YAML 1.1 parses 2024_11_29, 007, on and 1:30 as numbers, booleans or times.

The grammar is that of YAML, with its quotes, brackets and comments. Only the type that YAML guesses is ignored, because the key has a
declared type.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from omegaconf import OmegaConf

INDICATORS = "&*!|>%@`"  # a plain scalar cannot begin with them (YAML 1.2, 5.3)
TEXT = "tag:yaml.org,2002:str"


def is_text(hint: Any) -> bool:
    """Return whether a key of this type is text, or a list of texts."""
    return hint is str or (get_origin(hint) in (list, tuple) and get_args(hint)[0] is str)


def text_value(given: str, hint: Any) -> Any:
    """Return the value of `key=given` for a key of text: a text for str, a list for a list of texts, None for no value.

    Raises yaml.YAMLError for text that is not YAML or has a tag of its own, such as a Python object.
    """
    given = given.strip()
    node = yaml.compose(given, yaml.SafeLoader)
    if node is None or given == "???":  # OmegaConf's word for no value
        return None
    if given[0] in INDICATORS or node.tag not in yaml.SafeLoader.yaml_constructors:
        raise yaml.YAMLError(f"{given[:40]!r} has a meaning of its own in YAML")
    if isinstance(node, yaml.CollectionNode) and node.flow_style:
        return _constructed(node)
    text = node.value if isinstance(node, yaml.ScalarNode) and node.style else given  # style: in quotes
    return text if hint is str else [text]


def _constructed(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_constructed(element) for element in node.value]
    return node.value if isinstance(node, yaml.ScalarNode) else {key.value: _constructed(value) for key, value in node.value}


def read_yaml(path: Path, types: Mapping[str, Any]) -> Any:
    """Return a YAML file as OmegaConf reads it, but with the values of text keys in `types` as they are written.

    Raises yaml.YAMLError, OmegaConfBaseException or UnicodeDecodeError when it is not YAML, OSError when it cannot be read.
    """
    root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    if root is None or root.tag == "tag:yaml.org,2002:null":
        return OmegaConf.create({})
    if isinstance(root, yaml.ScalarNode):
        raise yaml.YAMLError("one value alone, not keys with values, such as seed: 1")
    _spell(root, "", types)
    return OmegaConf.create(yaml.serialize(root, allow_unicode=True))


def _spell(node: yaml.Node, prefix: str, types: Mapping[str, Any]) -> None:
    """Mark the texts of a document as such, and make a list of one text where the key has a list."""
    for place, (key, value) in enumerate(node.value if isinstance(node, yaml.MappingNode) else ()):
        hint = types.get(f"{prefix}{key.value}")
        if is_text(hint):
            for scalar in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(scalar, yaml.ScalarNode) and scalar.value and scalar.tag in yaml.SafeLoader.yaml_constructors:
                    scalar.tag, scalar.style = TEXT, scalar.style or "'"
            if hint is not str and isinstance(value, yaml.ScalarNode) and value.tag == TEXT:
                node.value[place] = (key, yaml.SequenceNode("tag:yaml.org,2002:seq", [value]))
        elif not isinstance(key, yaml.CollectionNode):
            _spell(value, f"{prefix}{key.value}.", types)
