"""Detect a zip file that is one part of a split archive (APPNOTE.TXT 4.4.19 to 4.4.24) and cannot be read alone."""

from __future__ import annotations

import struct
from pathlib import Path

END, LOCATOR = b"PK\5\6", b"PK\6\7"
FURTHEST = 22 + 65535 + 20  # bytes from the end: the record, its comment, the locator of zip64


def check_whole_zip(path: Path) -> None:
    """Raise ValueError that explains how to join the parts when a zip file is the last one of several."""
    if is_split(path):
        raise ValueError(
            f"{path} is one part of a split archive; join the parts: zip -s 0 {path.name} --out WHOLE.zip, then pack WHOLE.zip"
        )


def is_split(path: Path) -> bool:
    """Return whether the end record of a zip file counts several disks, or a first part exists next to it."""
    with open(path, "rb") as file:
        file.seek(-min(FURTHEST, path.stat().st_size), 2)
        tail = file.read()
    place, locator = tail.rfind(END), tail.rfind(LOCATOR)
    disk = struct.unpack_from("<H", tail, place + 4)[0] if 0 <= place <= len(tail) - 22 else 0
    disks = struct.unpack_from("<I", tail, locator + 16)[0] if 0 <= locator <= len(tail) - 20 and disk == 0xFFFF else 0
    return 0 < disk < 0xFFFF or disks > 1 or any(path.with_suffix(part).exists() for part in (".z01", ".Z01"))
