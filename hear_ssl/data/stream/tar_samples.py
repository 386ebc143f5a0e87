"""One shard without an index as a sequence of clips: members of a tar, grouped into samples by webdataset.

Members are read by hear_ssl/safe_tar.py and not by webdataset's `tar_file_iterator`, which trusts any header, does not detect a shard
that is truncated between members or has a damaged header, copies unused members, and is 1.5 times slower.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from webdataset.tariterators import base_plus_ext, group_by_keys

from hear_ssl.data.shards.clip_offsets import AUDIO_SUFFIXES, LARGEST_RECORD, audio_members
from hear_ssl.data.stream.fetchers import open_shard
from hear_ssl.errors import one_line
from hear_ssl.safe_tar import COMPRESSIONS, BoundedTarInfo, members
from hear_ssl.test_data_rule import RULE, marks_test

OCTAL = re.compile(rb"([0-7]+)[ \0]+")  # a number in a header
LARGEST_CLIP = 1 << 30  # bytes of encoded audio
MOST_TRAILING = 1 << 20  # bytes after the end mark that are checked
MOST_KEYS = 1 << 17  # of a shard, to detect repeated keys
WHOLE_SHARD = ""  # the key of damage to the whole shard


class PlainTarInfo(BoundedTarInfo):
    """A tar member with a parser that is three times faster for plain headers: regular files with short names."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> PlainTarInfo:
        """Return the member for a header of 512 bytes; tarfile parses other headers, and raises for damaged ones."""
        plain = buf[156:157] == tarfile.REGTYPE and buf[345:346] == b"\0"  # no prefix of a longer name
        size, total = (OCTAL.fullmatch(buf[start:end]) for start, end in ((124, 136), (148, 156)))
        if not (plain and size and total and sum(buf) - sum(buf[148:156]) + 8 * 32 == int(total[1], 8)):
            return super().frombuf(buf, encoding, errors)
        member = cls(bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors))
        member.size, member.type = int(size[1], 8), tarfile.REGTYPE
        return member


class Sample(NamedTuple):
    """One sample: its key, and its encoded audio or the reason why there is none. The key WHOLE_SHARD is damage to the shard."""

    key: str
    audio: bytes
    reason: str = ""


@dataclass
class Damage:
    """What is wrong with a shard, and the key of the sample in whose member it ends."""

    reason: str = ""
    key: str = ""


def read_samples(url: str, audio: str = "") -> Iterator[Sample]:
    """Yield the samples of a shard at a path, an address or a command, up to its damage, which is yielded last.

    audio: the suffix of the audio member if samples have several; '' for the only one.
    """
    damage, seen = Damage(), set[str]()
    repeated: list[str] = []

    def note(error: Exception) -> bool:
        repeated.append(str(error.args[0]).partition(": duplicate")[0])
        return True

    for sample in group_by_keys(_members(url, audio.lower(), damage), handler=note):
        key = sample["__key__"]
        if key in seen:
            yield Sample(key, b"", "two samples of the shard have its key; the first is read")
        elif not (damage.reason and key == damage.key):
            yield _sample(sample, audio.lower())
        if len(seen) < MOST_KEYS:
            seen.add(key)
        while repeated:
            yield Sample(WHOLE_SHARD, b"", f"two members are named {repeated.pop()[:60]!r}; the first is read")
    if damage.reason:
        yield Sample(WHOLE_SHARD, b"", damage.reason)


def _members(url: str, audio: str, damage: Damage) -> Iterator[dict[str, Any]]:
    """Yield the members of a shard as webdataset groups them; only audio and JSON have content. `damage` gets the cause of an early end."""
    try:
        file = open_shard(url)
    except (OSError, ValueError) as error:
        damage.reason = f"cannot be opened: {one_line(error)[:160]}"
        return
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=PlainTarInfo) as tar:
            yield from _regular_members(tar, file, audio, damage)
            _check_end(tar, file)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        damage.reason = _named(one_line(error)[:160], file)
    finally:
        file.close()


def _regular_members(tar: tarfile.TarFile, file: Any, audio: str, damage: Damage) -> Iterator[dict[str, Any]]:
    with_audio = ""  # key of the sample whose audio was read: one of several members is enough
    for member in members(tar):
        key, suffix = base_plus_ext(member.name) if member.isreg() and not member.issparse() else (None, None)
        if key is None or suffix is None or member.name.startswith("__"):
            continue
        suffix, content = suffix.lower(), b""
        damage.key = key
        if audio_members([suffix], audio) and key != with_audio and member.size <= LARGEST_CLIP:
            content, with_audio = _content(member, file), key
        elif suffix == "json" and member.size <= LARGEST_RECORD:
            content = _content(member, file)
        damage.key = ""
        yield {"fname": member.name, "data": content, "__url__": ""}


def _content(member: tarfile.TarInfo, file: Any) -> bytes:
    if file.tell() != member.offset_data:
        file.seek(member.offset_data)
    content: bytes = file.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("ended within a member")
    return content


def _check_end(tar: tarfile.TarFile, file: Any) -> None:
    """Raise tarfile.ReadError unless the members are followed by the end mark and only zeros after it."""
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block or any(block):
        raise tarfile.ReadError("a damaged header" if block else "no end mark")
    read = 0
    while read < MOST_TRAILING and (block := file.read(1 << 16)):  # the end of a command has its exit status
        read += len(block)
        if any(block):
            raise tarfile.ReadError("more follows its end mark: several archives in one?")


def _named(reason: str, file: Any) -> str:
    """Return the reason why a shard cannot be read, or that it is compressed if it is."""
    try:
        file.seek(0)
        start = file.read(6)
    except (OSError, ValueError):
        return reason
    packed = any(start.startswith(magic) for magic in COMPRESSIONS)
    return "is compressed; give it as 'pipe:gzip -dc FILE', or the like" if packed else reason


def _sample(sample: dict[str, Any], audio: str) -> Sample:
    """Return a sample with its audio, or with the reason why it has no usable audio."""
    key = sample["__key__"]
    suffixes = [suffix for suffix in sample if not suffix.startswith("__")]
    found = audio_members(suffixes, audio)
    if b'"split"' in sample.get("json", b"") and (split := _split(sample["json"])):
        return Sample(key, b"", f"its JSON has the split {split[:60]!r}: {RULE}")
    if len(found) > 1:
        return Sample(key, b"", f"has {len(found)} audio members ({', '.join(found)[:80]}); choose one with data.audio={found[0]}")
    if not found:
        wanted = f".{audio} member" if audio else f"audio member ({', '.join(AUDIO_SUFFIXES)})"
        return Sample(key, b"", f"has no {wanted}, only {', '.join(suffixes)[:60]}")
    content = sample[found[0]]
    return Sample(key, content, "" if content else "its audio member is empty, or larger than 1 GB")


def _split(record: bytes) -> str:
    """Return the split in the JSON of a sample if it marks test data, otherwise ''."""
    try:
        split = json.loads(record).get("split")
    except (ValueError, RecursionError, AttributeError):
        return ""
    return split if isinstance(split, str) and marks_test(split) else ""
