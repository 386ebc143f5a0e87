"""Download files: resume if the server supports it (RFC 9110, section 14), close slow connections, retry with growing pauses.

`transfer` makes one attempt, `retry` repeats it. http and https are read by hear_ssl/model/download.py, which ships in exported packages
and is imported only for a download. For other addresses the caller passes an opener; the caller also checks the bytes and writes the
error messages. Every download has a minimum rate and therefore ends.
"""

from __future__ import annotations

import errno
import io
import os
import re
import time
import urllib.error
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from hear_ssl.addresses import authorised, redacted
from hear_ssl.errors import one_line

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
SLOWEST = 10_000  # bytes per second, measured over each TIMEOUT_SECONDS of a connection, and over all attempts
PATIENCE = 20  # all attempts together may take this many TIMEOUT_SECONDS longer than the file at the slowest rate
IDLE_SECONDS = 1e6  # limit between two reads of a Download, when the caller does not wait for data
BLOCK = 1 << 20  # bytes
NOT_STORED = "; user, password and signature of an address are never stored: give it again with them, or put them into ~/.netrc"
LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # of the local disk; another attempt does not help
TRANSIENT_REFUSALS = (408, 416, 425, 429)  # HTTP status codes 4xx after which another attempt may succeed


@dataclass(frozen=True)
class Answer:
    """An open download: its stream, its first byte, and the file's size in bytes if the server states it.

    watch: closes the connection when it is silent.
    """

    stream: Any
    start: int = 0
    end: int | None = None
    watch: Any = None


Opener = Callable[[str, int], Answer]
ProgressCallback = Callable[[int, int | None], None]


def open_http(url: str, start: int = 0, anywhere: bool = True) -> Answer:
    """Open an http or https URL from byte `start` on, or from the beginning if the server cannot resume, and return the response.

    User and password are those in the URL or in ~/.netrc. anywhere: https may redirect to another host, for files with a checksum.
    Raises FileNotFoundError when the file does not exist (HTTP 404 or 410), other OSErrors when the server refuses or does not answer,
    ValueError for a redirect that is not allowed.
    """
    from hear_ssl.model.download import Watch, open_web  # loads torch

    place, credentials = authorised(url)
    headers = {"User-Agent": "hear_ssl", **({"Range": f"bytes={start}-"} if start else {})}
    watch = Watch(TIMEOUT_SECONDS)
    try:
        response = open_web(place, watch, headers, credentials, anywhere, TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        watch.close()
        if error.code in (404, 410):
            raise FileNotFoundError(f"{redacted(url)} is not there (HTTP {error.code})") from None
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):  # the file is complete
            return Answer(io.BytesIO(), start, start)
        return open_http(url, anywhere=anywhere)  # the file has fewer bytes than `start`, so the partial file is of another one
    except BaseException:
        watch.close()
        raise
    if start and response.status == 206:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != start:
            response.close()
            watch.close()
            return open_http(url, anywhere=anywhere)
    else:
        start = 0
    return Answer(response, start, None if response.length is None else start + response.length, watch)


def open_unchecked(url: str, start: int = 0) -> Answer:
    """Open an http or https URL of a file without a published checksum, which may redirect only within its host."""
    return open_http(url, start, anywhere=False)


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
    """Append the missing bytes of a URL to a file; if the download cannot be resumed, empty the file and start again.

    size: required number of bytes. limit: largest number of bytes. Both are checked during the download, the content is not.
    progress: called with the bytes so far and the total, None if unknown.

    Raises ConnectionError or another OSError when the connection breaks, stalls, is slower than SLOWEST or sends too much;
    FileNotFoundError when the file does not exist, ValueError when the opener does not support the URL.
    """
    present = file.seek(0, os.SEEK_END)
    if present and present == size:
        return
    try:
        answer = opener(url, present)
        try:
            with closing(answer.stream):
                if answer.start != present:
                    file.truncate(0)
                    file.seek(0)
                end = size if answer.end is None else answer.end
                most = min((n for n in (size, end, limit) if n is not None), default=None)
                _copy(answer, file, end, most, progress)
        finally:
            if answer.watch:
                answer.watch.close()
    except (OSError, ValueError):
        raise
    except Exception as error:  # http.client and clients of other stores raise errors of any class
        raise ConnectionError(one_line(error)) from None


def _copy(answer: Answer, file: BinaryIO, end: int | None, limit: int | None, progress: ProgressCallback) -> None:
    """Append a response to a file block by block. Raises ConnectionError when it is too slow, too long or incomplete."""
    from hear_ssl.model.download import blocks  # loads torch

    size = file.tell()
    progress(size, end)
    for block in blocks(answer.stream, answer.watch, TIMEOUT_SECONDS):
        size += len(block)
        if limit is not None and size > limit:
            file.truncate(0)
            raise ConnectionError(f"more than the {limit} bytes that it should have")
        file.write(block)
        file.flush()
        progress(size, end)
    if end is not None and size < end:
        raise ConnectionError(f"the connection ended after {size} of {end} bytes")


def retry(attempt: Callable[[], None], file: BinaryIO) -> None:
    """Call `attempt` until it succeeds, up to six times with growing pauses; progress of `file` at a fair rate resets the count.

    Raises ConnectionError with the number of attempts and the last reason, also when all attempts together take longer than the
    slowest rate allows. Errors that another attempt cannot solve are raised at once.
    """
    failures, begun = 0, time.monotonic()
    first = longest = file.seek(0, os.SEEK_END)
    while True:
        start = time.monotonic()
        try:
            attempt()
            return
        except OSError as error:
            if is_final(error):
                raise
            reason = one_line(error)
        now, size = time.monotonic(), file.seek(0, os.SEEK_END)
        failures = 1 if size - longest > SLOWEST * (now - start) else failures + 1
        longest = max(longest, size)
        if failures >= ATTEMPTS:
            raise ConnectionError(f"{failures} attempts ({reason[:160]})")
        if now - begun > PATIENCE * TIMEOUT_SECONDS + (longest - first) / SLOWEST:
            raise ConnectionError(f"{now - begun:.0f} s with {longest - first} new bytes ({reason[:160]})")
        time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))


def refused_hint(error: Exception) -> str:
    """Return a hint for a server that requires or refuses credentials; '' for other errors."""
    return NOT_STORED if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403) else ""


def is_final(error: OSError) -> bool:
    """Return whether another attempt is useless: the file does not exist, the server refuses, or the disk is full or read-only."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in TRANSIENT_REFUSALS
    return isinstance(error, FileNotFoundError) or error.errno in LOCAL_ERRORS


class Download(io.RawIOBase):
    """A file at an address, read from start to end without a copy on disk.

    When the connection breaks, is silent or too slow, it is opened again at the next byte, up to six times in a row with growing pauses,
    as in `retry`. Only the time spent waiting for data counts, not the time between two reads.
    """

    def __init__(self, url: str, opener: Opener = open_http) -> None:
        """Open the address. Raises FileNotFoundError when the file does not exist, other OSErrors when it refuses or does not answer."""
        self.url, self.opener = url, opener
        self.end: int | None = None
        self.answer: Answer | None = None
        self.place = self.failures = self.failed_at = 0
        self.waited, self.received = 0.0, 0
        self._try(self._open)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with received bytes and return their number; 0 at the end of the file. Raises OSError."""
        block = self._try(lambda: self._receive(len(buffer)))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self._drop()
        super().close()

    def _try(self, attempt: Callable[[], Any]) -> Any:
        while True:
            try:
                return attempt()
            except (OSError, ValueError) as error:
                self._drop()
                if isinstance(error, ValueError) or is_final(error):
                    raise
                reason = one_line(error)
            except Exception as error:  # http.client and clients of other stores raise errors of any class
                self._drop()
                reason = one_line(error)
            self.failures = 1 if self.place - self.failed_at > SLOWEST * TIMEOUT_SECONDS else self.failures + 1
            self.failed_at = self.place
            if self.failures >= ATTEMPTS:
                raise ConnectionError(f"{self.failures} attempts ({reason[:160]})")
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1))

    def _open(self) -> Answer:
        answer = self.answer = self.opener(self.url, self.place)
        self.waited, self.received = 0.0, 0
        if self.end is not None and answer.end not in (None, self.end):
            raise ValueError(f"it has {answer.end} bytes now, it had {self.end}: it has changed while it was read")
        self.end = answer.end if self.end is None else self.end
        left = self.place - answer.start
        if left and getattr(answer.stream, "seekable", lambda: False)():
            answer.stream.seek(self.place)
            left = 0
        while left:  # the server has started again from the beginning
            block = self._arrived(answer, min(left, BLOCK))
            if not block:
                raise ConnectionError("the connection ended early")
            left -= len(block)
        return answer

    def _receive(self, size: int) -> bytes:
        answer = self.answer or self._open()
        block = self._arrived(answer, min(size, BLOCK))
        if not block and self.end is not None and self.place < self.end:
            raise ConnectionError(f"the connection ended after {self.place} of {self.end} bytes")
        self.place += len(block)
        return block

    def _arrived(self, answer: Answer, size: int) -> bytes:
        """Return the received bytes. Raises ConnectionError when they are slower than SLOWEST over TIMEOUT_SECONDS of waiting."""
        if answer.watch:
            answer.watch.feed(2.0 * TIMEOUT_SECONDS)
        begun = time.monotonic()
        try:
            block: bytes = getattr(answer.stream, "read1", answer.stream.read)(size)
        finally:
            expired = answer.watch and answer.watch.expired
            if answer.watch:
                answer.watch.feed(IDLE_SECONDS)
        if expired:
            raise ConnectionError(f"nothing whole arrived for {2.0 * TIMEOUT_SECONDS:.0f} s")
        self.waited, self.received = self.waited + time.monotonic() - begun, self.received + len(block)
        if self.waited > TIMEOUT_SECONDS:
            if self.received < SLOWEST * self.waited:
                raise ConnectionError(f"only {self.received} bytes in {self.waited:.0f} s")
            self.waited, self.received = 0.0, 0
        return block

    def _drop(self) -> None:
        answer, self.answer = self.answer, None
        if answer:
            with suppress(Exception):
                answer.stream.close()
            if answer.watch:
                answer.watch.close()
