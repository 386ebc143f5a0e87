"""Show the parameters and attributes in a docstring as a list: an extension of griffe, which reads the docstrings.

Our docstrings describe them as `name: meaning.` in plain paragraphs, several per line if they are short.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class NamedLines(griffe.Extension):
    """Convert each description of a parameter or an attribute to a list item."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Change the docstring of a function."""
        self.change(func, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Change the docstring of a class."""
        self.change(cls, list(cls.members))

    def change(self, found: griffe.Object, names: list[str]) -> None:
        """Convert the descriptions of these names to list items."""
        if found.docstring and names:
            found.docstring.value = listed(found.docstring.value, names)


def listed(text: str, names: list[str]) -> str:
    """Return a docstring with a list item for each `name: meaning` at the start of a line or after a full stop or semicolon."""
    start = rf"(?:^|;? (?<=[.?)}}\";] ))({'|'.join(map(re.escape, names))})((?: and \w+)?): "
    paragraphs = []
    for paragraph in text.split("\n\n"):
        items = re.sub(start, r"\n\n- `\1`\2: ", paragraph, flags=re.MULTILINE)
        paragraphs.append(re.sub(r"\n(?![\n-])", " ", items) if items != paragraph else paragraph)
    return "\n\n".join(paragraphs)
