"""Build the classes that a config selects by name, such as encoders.

A part is built with plain keywords: its options and those of the offered values (such as n_mels) that the signature of `__init__`
names.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, Iterable, Type

from .options import Part, options_of


def build(part: Part, **offered: Any) -> Any:
    """Return an instance of a part, built with its options and those of the `offered` values that its signature names."""
    values = {item.name: getattr(part.options, item.name) for item in fields(options_of(part.kind))}
    parameters = inspect.signature(part.kind).parameters
    return part.kind(**{name: value for name, value in offered.items() if name in parameters}, **values)


def check_signature(kind: Type[Any], offered: Iterable[str]) -> None:
    """Raise ValueError when a part's `__init__` does not accept one of its options, or requires what is neither an option nor offered."""
    options = [item.name for item in fields(options_of(kind))]
    parameters = inspect.signature(kind).parameters
    variadic = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in options:
        if name in offered:
            raise ValueError(f"{kind.__name__}.Options.{name} has a name that is given to every class of its kind; rename the option")
        if name not in parameters and not variadic:
            raise ValueError(f"{kind.__name__}.__init__ does not accept its option {name}; add the keyword {name}")
    for name, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in options and name not in offered:
            raise ValueError(f"{kind.__name__}.__init__ requires {name}, which is neither one of its options nor {' or '.join(offered)}")
