"""One audio file to pack: its location, licence, split and source."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Item:
    """One audio file: its location, licence, split and source.

    archive: kind of the archive that contains it, '' for a plain file. name: path relative to the input, or member name. offset, size:
    position in the archive. refused: why it must not be read, '' when it may. copy: counts files of equal source and name, which two
    folders or members may have. marked: the part of its path that is marked as test data.
    """

    path: str
    name: str
    source: str
    license: str
    split: str
    archive: str = ""
    offset: int = 0
    size: int = 0
    refused: str = ""
    copy: int = 0
    marked: str = ""


def printable(name: str) -> str:
    """Return a file name as valid UTF-8 on one line; invalid bytes, tabs and line breaks are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
