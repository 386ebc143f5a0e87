"""Output of a package: files that are written completely or not at all, and foreign texts on one line."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterator


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield an open file to write to; it becomes `path` when the block ends without an error, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(str(temporary), "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(path))
    finally:
        if temporary.exists():
            temporary.unlink()


def one_line(error: BaseException) -> str:
    """Return an error's message on one line of at most 120 characters, without the object address in a decoder's message."""
    return (shown(getattr(error, "error_string", error)) or type(error).__name__)[:120]


def shown(text: Any) -> str:
    """Return a text, such as a file name, on one line with control characters escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in " ".join(str(text).split()))
