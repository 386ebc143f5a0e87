"""One audio file to pack: where it lies and what is known of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Item:
    """One audio file: where it lies and what is known of it.

    archive is the kind of archive that holds it ('' for a plain file); name is its path relative to the input, or the
    member name; offset and size are its place in the archive. refused is the reason why it must not be read, '' when it
    may. copy counts the files of one source and name, which two folders or two members may share. marked is the part of
    its path that is marked as test data.
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
    """Return a file's name in valid UTF-8 on one line: bytes that are none, tabs and the ends of lines are written out."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
