"""Open shards without an index by webdataset's `gopen`, with our own handlers.

The handlers of webdataset 1.0.2 start `curl` without a timeout, put a hub token on its command line, sometimes ignore the exit status of
a `pipe:` command, and do not support s3://. Ours replace them: hear_ssl/download.py for http and https, fsspec for other addresses, and
a shell for commands, whose exit status is checked.
"""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
from contextlib import suppress
from tarfile import BLOCKSIZE
from typing import Any

from webdataset.gopen import gopen, gopen_schemes

from hear_ssl.data.shards.cache import is_remote
from hear_ssl.data.shards.fetch import open_address
from hear_ssl.download import TIMEOUT_SECONDS, Download

BUFFER = 1 << 18  # bytes
PIPE = "pipe:"


class ForwardFile:
    """A stream for tarfile: read(size), tell(), seek() forward, and seek() back over the last header."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self.file, self.place = io.BufferedReader(raw, BUFFER), 0
        self.header, self.again = b"", b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the stream."""
        content, self.again = self.again[:size], self.again[size:]
        if len(content) < size:
            content += self.file.read(size - len(content))
        self.place += len(content)
        self.header = content if len(content) == BLOCKSIZE else b""
        return content

    def tell(self) -> int:
        """Return the number of bytes read or skipped."""
        return self.place

    def seek(self, place: int) -> int:
        """Skip to a position. Raises ValueError when it is before the last header."""
        if self.place - len(self.header) <= place < self.place:
            self.again = self.header[place - self.place :] + self.again
            self.place, self.header = place, b""
        if place < self.place:
            raise ValueError("a size leads back in the shard")
        while self.place < place and self.read(min(place - self.place, BUFFER)):
            pass
        return self.place

    def close(self) -> None:
        """Close the stream; end its command."""
        self.file.close()


class Command(io.RawIOBase):
    """The standard output of a shell command."""

    def __init__(self, command: str) -> None:
        self.process = subprocess.Popen(
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with output and return the number of bytes; 0 after the command has succeeded.

        Raises OSError when its exit status is not 0, or when it wrote nothing for the time limit.
        """
        assert self.process.stdout is not None
        seconds = 2.0 * TIMEOUT_SECONDS
        ready = select.poll()
        ready.register(self.process.stdout)
        if not ready.poll(1000.0 * seconds):
            raise OSError(f"the command wrote nothing for {seconds:.0f} s")
        block = os.read(self.process.stdout.fileno(), len(buffer))
        buffer[: len(block)] = block
        if not block and (status := self._status(seconds)):
            raise OSError(f"the command ended with exit status {status}")
        return len(block)

    def _status(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise OSError(f"the command closed its output and did not end within {seconds:.0f} s") from None

    def close(self) -> None:
        """End the command and its child processes."""
        if not self.closed:
            with suppress(ProcessLookupError, PermissionError):  # it has ended
                if self.process.poll() is None:
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
        super().close()


def open_download(url: str, mode: str = "rb", bufsize: int = BUFFER) -> ForwardFile:
    """Return the file at an address as a stream. Raises OSError when it cannot be opened."""
    return ForwardFile(Download(url, open_address))


def open_command(url: str, mode: str = "rb", bufsize: int = BUFFER) -> ForwardFile:
    """Return the output of the command in `pipe:COMMAND` as a stream."""
    return ForwardFile(Command(url[len(PIPE) :]))


def register() -> None:
    """Replace webdataset's handlers by ours in this process."""
    for scheme in gopen_schemes:
        gopen_schemes[scheme] = open_download
    gopen_schemes[PIPE.rstrip(":")] = open_command


def open_shard(url: str) -> Any:
    """Return a shard at a path, an address or a command as a file. Raises OSError or ValueError when it cannot be opened."""
    if not is_remote(url):
        return open(url, "rb")
    register()
    return gopen(url)
