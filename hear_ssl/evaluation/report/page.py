"""Parts of a page: sections, figures with captions, tables, text of others. Loads no torch."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from hear_ssl.errors import printable

BREAK = re.compile(r"(?<=[._/,])(?!\d)")  # where the name of a key or a path may be broken


def section(title: str, text: str, content: str) -> str:
    """Return a section: what one sees, one sentence on how to read it, the content."""
    return f"<section><h2>{html.escape(title)}</h2><p>{text}</p>{content}</section>"


def opening(sentence: str, content: str) -> str:
    """Return the first section of a page: what was found, in one sentence, and its chart."""
    return f"<section class=opening><p class=result>{sentence}</p>{content}</section>"


def figure(content: str, caption: str) -> str:
    """Return a figure with its caption."""
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def shown(value: Any) -> str:
    """Return a value of others as text of the page."""
    return html.escape(printable(str(value)))


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table that scrolls sideways where it is wider than the page; the first cell of each row is its title."""
    lines = ["".join(f"<th>{shown(cell)}</th>" for cell in head)]
    lines += [f"<th>{BREAK.sub('<wbr>', shown(row[0]))}</th>{''.join(f'<td>{shown(cell)}</td>' for cell in row[1:])}" for row in rows]
    return f"<div class=scroll><table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table></div>"
