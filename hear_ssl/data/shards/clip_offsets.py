"""Clip offsets of a tar shard: the position of each clip, and a checksum of its bytes.

The shard is scanned by the block structure of the tar format (POSIX.1-1988 ustar); nothing is extracted. It is scanned once, when it is
packed, indexed or downloaded, and the result is stored in NAME.clips next to NAME.tar. A run then starts at once on any number of clips,
and clips whose bytes have changed are detected. Without that file the shard is scanned again, without checksums.
"""

from __future__ import annotations

import os
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_ssl.files import atomic_write
from hear_ssl.safe_tar import BoundedTarInfo, tar_members

AUDIO_SUFFIXES = ("flac", "wav", "ogg", "opus", "mp3")
MEMBER = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)  # key and suffix as in webdataset; other names belong to no clip
SUFFIX = ".clips"
HEADER = struct.Struct("<8s32sII")  # magic, SHA-256 of the shard, CRC-32 of the following field and the rows, bytes per key
MARK = b"clips/1\0"
HEAD_BYTES = 4096
LARGEST_TABLE = 64 << 20  # bytes; for a larger shard, up to the size of the shard
LARGEST_RECORD = 16 << 20  # bytes of the JSON of a clip
UNKNOWN = -1


@dataclass(frozen=True)
class Clip:
    """The position of a clip: shard path, key, codec, offset and size in bytes of its audio and of its JSON member (0 without one).

    checksum: the result of `checksum` for the undamaged shard, or UNKNOWN.
    """

    shard: str
    key: str
    codec: str
    offset: int
    size: int
    json_offset: int
    json_size: int
    checksum: int = field(default=UNKNOWN, compare=False)


@dataclass(frozen=True)
class ClipOffsets:
    """The clips of a shard in order, about 70 bytes each: rows (clips,) of `row_type`, with an empty codec if a member is incomplete.

    damage: what is wrong with the shard, or ''. summed: whether checksums are known.
    """

    shard: str
    rows: NDArray[np.void]
    damage: str = ""
    summed: bool = False

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    def clip(self, place: int) -> Clip | None:
        """Return the position of a clip; None beyond the end, and when a member is incomplete."""
        if place >= len(self.rows):
            return None
        offset, size, json_offset, json_size, total, codec, key = self.rows[place].item()
        if not codec:
            return None
        name = key.decode(errors="surrogateescape")
        return Clip(self.shard, name, codec.decode(), offset, size, json_offset, json_size, total if self.summed else UNKNOWN)

    def place(self, key: bytes) -> int | None:
        """Return the index of the row with a key, or None."""
        found = np.flatnonzero(self.rows["key"] == key)
        return int(found[0]) if len(found) else None


def row_type(key_bytes: int) -> np.dtype[Any]:
    """Return the type of a row: offsets and sizes in bytes, checksum, codec, key."""
    numbers = [(name, "<i8") for name in ("offset", "size", "json_offset", "json_size")]
    return np.dtype([*numbers, ("checksum", "<u4"), ("codec", "S4"), ("key", f"S{key_bytes}")])


def no_clip_offsets(damage: str) -> ClipOffsets:
    """Return the clip offsets of an unreadable shard."""
    return ClipOffsets("", np.empty(0, row_type(1)), damage)


def checksum(codec: str, audio: bytes) -> int:
    """Return the CRC-32 of a clip's encoded audio; for FLAC only of its header, because decoding checks the checksum of every frame."""
    return zlib.crc32(audio[:HEAD_BYTES] if codec == "flac" else audio)


def audio_members(suffixes: Iterable[str], audio: str) -> list[str]:
    """Return the lower-case suffixes of a sample that are audio: `audio` if it is given, otherwise all that end in a known format."""
    return [suffix for suffix in suffixes if (suffix == audio if audio else suffix.rpartition(".")[2] in AUDIO_SUFFIXES)]


def scan_shard(path: str | Path, audio: str = "") -> ClipOffsets:
    """Return the clips of a shard as far as it is readable. audio: the suffix of the audio member if clips have several.

    Raises OSError when it cannot be opened.
    """
    members: dict[str, dict[str, tuple[int, int]]] = {}
    damage = last = unfinished = ""
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedTarInfo) as tar:
            for member in tar_members(tar, path):
                found = MEMBER.fullmatch(member.name) if member.isreg() else None
                if found:
                    last, suffix = found[1], found[2].lower()
                    parts = members.setdefault(last, {})
                    damage = damage or (f"two members are named {member.name[:60]!r}" if suffix in parts else "")
                    parts.setdefault(suffix, (member.offset_data, member.size))
    except (tarfile.TarError, EOFError, ValueError) as error:
        damage, unfinished = " ".join(str(error).split())[:60], last  # members of the last clip may be missing
    size = os.path.getsize(path)
    rows: list[tuple[int, int, int, int, int, bytes, bytes]] = []
    for key, parts in members.items():
        found_audio = audio_members(parts, audio.lower())
        if not found_audio and "json" not in parts:
            continue  # not a clip: a README, a list
        name = key.encode(errors="surrogateescape")
        lacking = "is cut off" if key == unfinished and "json" not in parts else _lacking(found_audio, parts, size, audio)
        if lacking:
            damage = damage or f"clip {key[:60]!r} {lacking}"
            rows.append((0, 0, 0, 0, 0, b"", name))
        else:
            chosen = min(found_audio, key=_preference)
            rows.append((*parts[chosen], *parts.get("json", (0, 0)), 0, chosen.rpartition(".")[2].encode()[:4], name))
    return ClipOffsets(str(path), np.array(rows, row_type(max((len(row[-1]) for row in rows), default=1))), damage)


def _preference(suffix: str) -> int:
    """Return the rank of a suffix in the order of preference among several plain suffixes."""
    return AUDIO_SUFFIXES.index(suffix) if suffix in AUDIO_SUFFIXES else len(AUDIO_SUFFIXES)


def _lacking(found_audio: list[str], parts: dict[str, tuple[int, int]], size: int, audio: str) -> str:
    """Return what is wrong with a clip's members {suffix: (offset, bytes)} in a shard of `size` bytes, or ''."""
    if not found_audio:
        wanted = f".{audio} member" if audio else f"audio member ({', '.join(AUDIO_SUFFIXES)})"
        return f"has no {wanted}, only {', '.join(sorted(parts))[:60]}"
    if len(found_audio) > 1 and not set(found_audio) & set(AUDIO_SUFFIXES):
        return f"has {len(found_audio)} audio members ({', '.join(found_audio)[:80]}); choose one with --audio {found_audio[0]}"
    if parts.get("json", (0, 0))[1] > LARGEST_RECORD:
        return f"has a .json member of {parts['json'][1]} bytes"
    return "is cut off" if any(offset + length > size for offset, length in parts.values()) else ""


def read_clips(path: str | Path, audio: str = "") -> list[Clip]:
    """Return the clips of an undamaged shard in order. Raises ValueError when any part of it is damaged."""
    return [clip for clip in _clips(_whole(path, audio)) if clip is not None]


def _whole(path: str | Path, audio: str) -> ClipOffsets:
    table = scan_shard(path, audio)
    if table.damage:
        raise ValueError(f"shard {path} is damaged ({table.damage}); pack or download it again")
    return table


def _clips(table: ClipOffsets) -> Iterator[Clip | None]:
    return map(table.clip, range(len(table)))


def write_clip_offsets(path: Path, sha256: str, audio: str = "") -> None:
    """Write the clip offsets of an undamaged shard with this SHA-256 next to it. audio: see `scan_shard`.

    Raises ValueError when the shard is damaged, OSError when the file cannot be written.
    """
    table = _whole(path, audio)
    table.rows["checksum"] = [checksum(clip.codec, read_bytes(clip.shard, clip.offset, clip.size)) for clip in _clips(table) if clip]
    body, key_bytes = table.rows.tobytes(), table.rows.dtype["key"].itemsize
    head = HEADER.pack(MARK, bytes.fromhex(sha256), zlib.crc32(body, key_bytes), key_bytes)
    atomic_write(path.with_suffix(SUFFIX), head + body)


def load_clip_offsets(path: Path, sha256: str) -> ClipOffsets | None:
    """Return the clip offsets stored next to a shard; None when they are missing, damaged or of other bytes."""
    table = path.with_suffix(SUFFIX)
    try:
        size = path.stat().st_size
        if not table.is_file() or table.stat().st_size > max(LARGEST_TABLE, size):
            return None
        content = table.read_bytes()
        mark, shard, crc, key_bytes = HEADER.unpack_from(content)
        body = memoryview(content)[HEADER.size :]
        if (mark, shard.hex(), crc) != (MARK, sha256, zlib.crc32(body, key_bytes)) or 0 < len(body) < key_bytes:
            return None
        rows = np.frombuffer(body, row_type(key_bytes))
    except (OSError, ValueError, TypeError, struct.error):  # TypeError: a key longer than numpy has
        return None
    return ClipOffsets(str(path), rows, summed=True) if _possible(rows, size) else None


def _possible(rows: NDArray[np.void], size: int) -> bool:
    """Return whether the rows have offsets inside a shard of `size` bytes and known codecs; the file is untrusted."""
    codecs = np.isin(rows["codec"], [codec.encode() for codec in AUDIO_SUFFIXES])
    return bool(codecs.all()) and all(
        bool(((rows[start] >= 0) & (rows[length] >= 0) & (rows[start] <= size - rows[length])).all())
        for start, length in (("offset", "size"), ("json_offset", "json_size"))
    )


def sha256_of_clip_offsets(path: Path) -> str:
    """Return the SHA-256 for which the clip offsets next to a shard were written, or '' when there are none."""
    try:
        with open(path.with_suffix(SUFFIX), "rb") as file:
            mark, shard, _, _ = HEADER.unpack(file.read(HEADER.size))
    except (OSError, struct.error):
        return ""
    return str(shard.hex()) if mark == MARK else ""


def read_bytes(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset`. Raises ValueError when it ends earlier, OSError when it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(content) != size:
        raise ValueError(f"shard {path} ended early")
    return content
