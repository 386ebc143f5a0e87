"""Discard what libmpg123 prints about MP3 files, in the processes that decode.

libsndfile decodes MP3 with libmpg123, which writes to the standard error of the process: "part2_3_length too large" for frames after a
seek that use bits of earlier frames, and "Cannot read next header" for bytes that are not MPEG audio. The first is not an error, because
`decode.PREROLL` decodes enough earlier frames; the second is also raised as an exception. libsndfile has no option against it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_discarding: list[int] = []  # the open null device, in a process that discards


def discard_in_this_process() -> None:
    """Let `without_decoder_messages` discard from now on; for worker processes, where no other thread writes to standard error."""
    if not _discarding:
        _discarding.append(os.open(os.devnull, os.O_WRONLY))


@contextmanager
def without_decoder_messages() -> Iterator[None]:
    """Discard what is written to file descriptor 2 within the block, where `discard_in_this_process` was called. Also a decorator."""
    if not _discarding:
        yield
        return
    stderr = os.dup(2)
    os.dup2(_discarding[0], 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
