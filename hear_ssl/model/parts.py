"""Build the classes that a config selects by name, such as encoders.

A part is built with plain keywords: its options and, of what its package offers (such as n_mels), the names in the signature of
`__init__`.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from .options import Part, options_of


def build(part: Part, **offered: Any) -> Any:
    """Return an instance of a part, given its options and those of the `offered` values that its signature names.

    Raises ValueError when `__init__` does not accept an option, or requires a value that nobody offers.
    """
    values = {item.name: getattr(part.options, item.name) for item in fields(options_of(part.kind))}
    parameters = inspect.signature(part.kind).parameters
    variadic = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in values:
        if name not in parameters and not variadic:
            raise ValueError(f"{part.key} has the option {name}, which its __init__ does not accept; add it as a keyword")
    for name, parameter in parameters.items():
        if name in offered:
            values.setdefault(name, offered[name])
        required = parameter.default is parameter.empty and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if required and name not in values:
            known = ", ".join(sorted(offered))
            raise ValueError(f"{part.key}.__init__ requires {name}, which is neither one of its options nor one of {known}")
    return part.kind(**values)
