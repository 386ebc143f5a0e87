"""WebDataset shards without an index, as other tools write them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.data.sounds import encoded, tone


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write members (name, content) in their order and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def flac(number: int, rate: int = 16000, seconds: float = 0.3) -> bytes:
    """Return a short tone whose pitch follows from its number."""
    return encoded(tone(seconds, 200.0 + 7.0 * number, rate), rate, "FLAC")


def plain_folder(folder: Path, counts: Iterable[int], rate: int = 16000, with_json: bool = False) -> Path:
    """Write shards a-000.tar and so on of so many clips each, with keys s000c000, and return their folder."""
    for shard, count in enumerate(counts):
        members: list[tuple[str, bytes]] = []
        for clip in range(count):
            key = f"s{shard:03d}c{clip:03d}"
            members.append((f"{key}.flac", flac(20 * shard + clip, rate, 0.3 + 0.01 * (clip % 5))))
            members += [(f"{key}.txt", b"a tone"), (f"{key}.cls", b"3")]
            if with_json:
                members.append((f"{key}.json", json.dumps({"text": "a tone", "seconds": 0.3}).encode()))
        write_tar(folder / f"a-{shard:03d}.tar", members)
    return folder
