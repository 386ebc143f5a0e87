"""How the texts of --help are laid out: wrapped to the terminal, with paragraphs and lists kept, and no word broken at a hyphen."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator

ITEM = re.compile(r" +(?:\S+  +)?")  # the start of an item of a list: indented, often a name and two spaces before its text


class HelpText(argparse.HelpFormatter):
    """The formatter_class of every command."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(line for block in blocks(text) for line in wrapped(block, width)) + "\n"


def blocks(text: str) -> Iterator[str]:
    """Yield the paragraphs and the list items of a text, each as one line with its indent, and an empty one for an empty line."""
    block = ""
    for line in text.splitlines():
        start = ITEM.match(block)
        hang = start.end() if start else 0
        indent = len(line) - len(line.lstrip())
        if block and line.strip() and indent == hang:  # it continues
            block += f" {line.strip()}"
            continue
        if block:
            yield block
        block = line.rstrip()
        if not block:
            yield ""
    if block:
        yield block


def wrapped(block: str, width: int) -> list[str]:
    """Return the lines of a paragraph, or of a list item, whose later lines begin where its text does; [""] of an empty one."""
    start = ITEM.match(block)
    hang = " " * (start.end() if start else 0)
    return textwrap.wrap(block, width, subsequent_indent=hang, break_on_hyphens=False, break_long_words=False) or [""]
