"""Fetch one file from an address: whole, checked, and tried again with growing pauses.

http and https need nothing more; s3://, gs://, hf:// and other addresses go through fsspec and ask for its package. A fetch
that breaks off, stalls, trickles, or brings other bytes is tried again; a file appears under its name only when right.
"""

from __future__ import annotations

import errno
import os
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from hear_ssl.data.shards.shard_index import DamagedIndexError, ShardRecord, read_index
from hear_ssl.files import atomic_path, sha256_of

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = 30.0
SLOWEST = 10_000  # bytes a second, over all of a fetch that has lasted longer than the timeout
BLOCK = 1 << 20
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # trying again does not help
INDEX_LIMIT = 64 << 20  # bytes
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


def fetch(url: str, path: Path, record: ShardRecord | None) -> None:
    """Fetch a shard and check it against its record, or an index (no record); it appears under its name only when right.

    Raises ConnectionError with the last failure after six attempts, ValueError at once when the address says that there
    is nothing, its scheme needs a package that is not installed, or this machine's disk is full or may not be written to.
    """
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with atomic_path(path) as temporary:
                copy(url, temporary, record.bytes if record else INDEX_LIMIT)
                if record is None:
                    read_index(temporary)
                elif (temporary.stat().st_size, sha256_of(temporary)) != (record.bytes, record.sha256):
                    raise ConnectionError(f"{temporary.stat().st_size} of {record.bytes} bytes, or others than the index says")
            return
        except FileNotFoundError:
            raise ValueError(f"{url} is not there; give the address of a folder packed by hear_ssl.data.pack") from None
        except (OSError, DamagedIndexError) as error:
            if isinstance(error, OSError) and error.errno in LOCAL:
                raise ValueError(f"{url} cannot be written to {path.parent}: {os.strerror(error.errno)}; see data.cache") from None
            failure = " ".join(str(error).split()) or type(error).__name__
    raise ConnectionError(
        f"{url} cannot be fetched after {ATTEMPTS} attempts ({failure[:160]}); the same command goes on when it answers again"
    )


def copy(url: str, path: Path, limit: int) -> None:
    """Copy at most `limit` bytes of a URL to a file.

    Raises OSError when it breaks off, stalls, trickles or is longer, FileNotFoundError when there is none, ValueError when
    nothing can read its scheme.
    """
    try:
        with closing(opened(url)) as source, open(path, "wb") as target:
            start, size = time.monotonic(), 0
            read = getattr(source, "read1", source.read)  # what has come, so that a trickle is seen
            while block := read(BLOCK):
                size += len(block)
                seconds = time.monotonic() - start
                if size > limit:
                    raise ConnectionError(f"more than the {limit} bytes that it should have")
                if seconds > TIMEOUT_SECONDS and size < SLOWEST * seconds:
                    raise ConnectionError(f"only {size} bytes in {seconds:.0f} s")
                target.write(block)
    except (OSError, ValueError):
        raise
    except Exception as error:  # http.client and each store's client have errors of their own
        raise ConnectionError(" ".join(str(error).split()) or type(error).__name__) from None


def opened(url: str) -> Any:
    """Return a file to read a URL from. Raises as `copy` does."""
    if url.startswith(("http://", "https://")):
        try:
            return urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise FileNotFoundError(url) from None
            raise
    scheme = url.partition("://")[0]
    try:
        import fsspec

        return fsspec.open(url, "rb").open()
    except (ImportError, ValueError) as error:
        remedy = f"; install {PACKAGES[scheme]} beside hear_ssl" if isinstance(error, ImportError) and scheme in PACKAGES else ""
        raise ValueError(f"{scheme}:// cannot be read ({' '.join(str(error).split())[:120]}){remedy}") from None
