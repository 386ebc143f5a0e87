"""Read the streams of a file that may be larger than memory: pages of a mapped file are released after reading.

Otherwise the system would release them only under memory pressure, and a recording of a day would count with its full size.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from typing import Any

from hear_ssl.model.audio_file import BEGINNINGS, Stream, flac, streams

WINDOW = 32 << 20  # bytes of a mapped file in memory at a time
FLAC = b"fLaC"


def file_streams(content: bytes | mmap.mmap) -> list[Stream]:
    """Return the streams of an encoded file; a large mapped FLAC file is searched window by window for concatenated files."""
    if not isinstance(content, mmap.mmap) or content[:4] != FLAC or len(content) <= WINDOW:
        return streams(content)
    beginning, overlap = re.compile(BEGINNINGS[FLAC]), 7  # bytes of a beginning that may be beyond its window
    starts: list[int] = []
    for first in range(0, len(content), WINDOW):
        starts += [found.start() for found in beginning.finditer(content, first, min(first + WINDOW + overlap, len(content)))]
        release(content)
    ends = [*starts[1:], len(content)]
    return [flac(Stream(content, start, end)) for start, end in zip(starts or [0], ends, strict=True)]


def blocks(stream: Stream) -> Iterator[Any]:
    """Yield the samples (frames, channels) of a stream, and release pages after reading them."""
    released = 0
    for block in stream.blocks():
        yield block
        if stream.place - released > WINDOW:
            release(stream.content)
            released = stream.place
    release(stream.content)


def release(content: bytes | mmap.mmap) -> None:
    """Release the pages of a mapped file; they are read again on the next access."""
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED)
