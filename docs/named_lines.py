"""Show a docstring's parameters and attributes as a list: an extension of griffe, which reads the docstrings.

Our docstrings describe them as `name: meaning.` in plain paragraphs, several to a line where they are short.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class NamedLines(griffe.Extension):
    """Makes a list item of each description of a parameter or an attribute."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Change the docstring of a function."""
        self.change(func, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Change the docstring of a class."""
        self.change(cls, list(cls.members))

    def change(self, found: griffe.Object, names: list[str]) -> None:
        """Make items of the descriptions of these names."""
        if found.docstring and names:
            found.docstring.value = listed(found.docstring.value, names)


def listed(text: str, names: list[str]) -> str:
    """Return a docstring with an item of a list for each `name: meaning`, at the start of a line or after a full stop or semicolon."""
    start = rf"(?:^|;? (?<=[.?)}}\";] ))({'|'.join(map(re.escape, names))})((?: and \w+)?): "
    paragraphs = []
    for paragraph in text.split("\n\n"):
        items = re.sub(start, r"\n\n- `\1`\2: ", paragraph, flags=re.MULTILINE)
        paragraphs.append(re.sub(r"\n(?![\n-])", " ", items) if items != paragraph else paragraph)
    return "\n\n".join(paragraphs)
