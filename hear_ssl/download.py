"""Download files: resume where the server can (RFC 9110, section 14), stop slow connections, try again with growing pauses.

`transfer` makes one attempt, `retry` repeats it. http and https are read here; the caller passes an opener for other
addresses, checks the bytes and words the errors. The weights of an exported package have a downloader of their own,
hear_ssl/model/download.py, because it ships with them.
"""

from __future__ import annotations

import errno
import io
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
SLOWEST = 10_000  # bytes a second, measured over each TIMEOUT_SECONDS of a connection
BLOCK = 1 << 20  # bytes
LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # of this machine's disk; another attempt does not help
TRANSIENT_REFUSALS = (408, 416, 425, 429)  # the HTTP statuses 4xx that another attempt may get past


@dataclass(frozen=True)
class Answer:
    """An open download: its stream, the byte it starts with, and the file's size in bytes where the server states it."""

    stream: Any
    start: int = 0
    end: int | None = None


Opener = Callable[[str, int], Answer]
ProgressCallback = Callable[[int, int | None], None]


def open_http(url: str, start: int = 0) -> Answer:
    """Open an http or https URL from byte `start` on, or from the beginning where the server cannot, and return its answer.

    Raises FileNotFoundError when there is nothing (HTTP 404 or 410), other OSErrors when it refuses or does not answer.
    """
    headers = {"User-Agent": "hear_ssl", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(f"{url} is not there (HTTP {error.code})") from None
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):  # nothing is missing
            return Answer(io.BytesIO(), start, start)
        return open_http(url)  # it serves fewer bytes than `start`: those are of another file
    if start and response.status == 206:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != start:
            response.close()
            return open_http(url)
    else:
        start = 0
    return Answer(response, start, None if response.length is None else start + response.length)


def ignore(size: int, end: int | None) -> None:
    """Show no progress."""


def transfer(
    url: str,
    file: BinaryIO,
    *,
    size: int | None = None,
    limit: int | None = None,
    opener: Opener = open_http,
    progress: ProgressCallback = ignore,
) -> None:
    """Append to a file what it lacks of a URL; one that cannot be resumed is emptied and starts again.

    `size` is the number of bytes that it should have, `limit` the most that it may have; both are checked while bytes
    arrive, the content is not. `progress` is called with the bytes so far and those in all, None where unknown.

    Raises ConnectionError or another OSError when the download breaks off, stalls, is slower than SLOWEST or too long,
    FileNotFoundError when there is nothing, ValueError when the opener cannot read such a URL.
    """
    present = file.seek(0, os.SEEK_END)
    if present and present == size:
        return
    try:
        answer = opener(url, present)
        with closing(answer.stream):
            if answer.start != present:
                file.truncate(0)
                file.seek(0)
            end = size if answer.end is None else answer.end
            _copy(answer.stream, file, end, min((n for n in (size, end, limit) if n is not None), default=None), progress)
    except (OSError, ValueError):
        raise
    except Exception as error:  # http.client and the clients of other stores have errors of their own
        raise ConnectionError(one_line(error)) from None


def _copy(stream: Any, file: BinaryIO, end: int | None, limit: int | None, progress: ProgressCallback) -> None:
    """Append a stream to a file block by block. Raises ConnectionError when it is too slow, too long or ends too early."""
    size = file.tell()
    since, before = time.monotonic(), size
    read = getattr(stream, "read1", stream.read)  # returns what has arrived, so that a slow connection is noticed
    progress(size, end)
    while block := read(BLOCK):
        size += len(block)
        if limit is not None and size > limit:
            file.truncate(0)
            raise ConnectionError(f"more than the {limit} bytes that it should have")
        file.write(block)
        file.flush()
        progress(size, end)
        seconds = time.monotonic() - since
        if seconds > TIMEOUT_SECONDS:
            if size - before < SLOWEST * seconds:
                raise ConnectionError(f"only {size - before} bytes in {seconds:.0f} s")
            since, before = time.monotonic(), size
    if end is not None and size < end:
        raise ConnectionError(f"the connection ended after {size} of {end} bytes")


def retry(attempt: Callable[[], None], file: BinaryIO) -> None:
    """Call `attempt` until it returns: six times with growing pauses, counted anew when `file` is longer than ever before.

    Raises ConnectionError with the number of attempts and the last reason, and at once what another attempt cannot mend.
    """
    failures, longest = 0, file.seek(0, os.SEEK_END)
    while True:
        try:
            attempt()
            return
        except OSError as error:
            if is_final(error):
                raise
            reason = one_line(error)
        size = file.seek(0, os.SEEK_END)
        failures = 1 if size > longest else failures + 1
        longest = max(longest, size)
        if failures >= ATTEMPTS:
            raise ConnectionError(f"{failures} attempts ({reason[:160]})")
        time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))


def is_final(error: OSError) -> bool:
    """Return whether another attempt is of no use: nothing is there, the server refuses, or the disk is full or read-only."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in TRANSIENT_REFUSALS
    return isinstance(error, FileNotFoundError) or error.errno in LOCAL_ERRORS


def one_line(error: Exception) -> str:
    """Return an error's message on one line, or the name of its class when it has none."""
    return " ".join(str(error).split()) or type(error).__name__
