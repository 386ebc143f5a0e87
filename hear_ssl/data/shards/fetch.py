"""Download one shard or index from an address and check it; the file gets its name only when its bytes are right.

http and https need no package; s3://, gs://, hf:// and other addresses use fsspec and need the package of their scheme.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from hear_ssl.addresses import redacted
from hear_ssl.data.shards.shard_index import DamagedIndexError, ShardRecord, read_index
from hear_ssl.download import LOCAL_ERRORS, Answer, open_http, open_unchecked, refused_hint, retry, transfer
from hear_ssl.errors import one_line
from hear_ssl.files import atomic_path, sha256_of

INDEX_LIMIT = 64 << 20  # bytes
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
RESUME = "the same command resumes when it answers again"


def fetch_shard_file(url: str, path: Path, record: ShardRecord | None) -> None:
    """Download a shard and check it against its record, or an index (no record); the file gets its name only when it is right.

    Raises ConnectionError with the last failure after six attempts, or at once when the server refuses. Raises ValueError at once
    when the file does not exist, the package of its scheme is not installed, or the local disk is full or read-only.
    """
    shown = redacted(url)
    try:
        with atomic_path(path) as temporary, open(temporary, "w+b") as file:
            retry(lambda: fetch_and_check(url, temporary, file, record), file)
    except FileNotFoundError:
        raise ValueError(
            f"{shown} is not there; give the address of a folder that hear-ssl pack wrote, or name shards"
            " without an index by braces: ADDRESS/NAME-{000000..000007}.tar"
        ) from None
    except ConnectionError as error:
        raise ConnectionError(f"{shown} cannot be fetched after {error}; {RESUME}") from None
    except OSError as error:
        if error.errno in LOCAL_ERRORS:
            raise ValueError(f"{shown} cannot be written to {path.parent}: {os.strerror(error.errno)}; see data.cache") from None
        raise ConnectionError(f"{shown} cannot be fetched ({one_line(error)[:160]}); {RESUME}{refused_hint(error)}") from None


def fetch_and_check(url: str, path: Path, file: BinaryIO, record: ShardRecord | None) -> None:
    """Download the rest of the open file at `path`. Raises ConnectionError and empties the file when its bytes are wrong."""
    opener = open_address if record else open_index
    transfer(url, file, size=record.bytes if record else None, limit=None if record else INDEX_LIMIT, opener=opener)
    try:
        if record is None:
            read_index(path)
        elif (path.stat().st_size, sha256_of(path)) != (record.bytes, record.sha256):
            raise ConnectionError(f"{path.stat().st_size} of {record.bytes} bytes, or others than the index states")
    except (ConnectionError, DamagedIndexError) as error:
        file.truncate(0)
        raise ConnectionError(str(error)) from None


def open_index(url: str, start: int = 0) -> Answer:
    """Open the address of an index. It has no checksum, therefore a redirect must stay on its host."""
    return open_unchecked(url, start) if url.startswith(("http://", "https://")) else open_address(url, start)


def open_address(url: str, start: int = 0) -> Answer:
    """Open an address of any scheme; fsspec always starts at the beginning. Raises ValueError when the scheme is not supported."""
    if url.startswith(("http://", "https://")):
        return open_http(url, start)
    scheme = url.partition("://")[0]
    try:
        import fsspec

        return Answer(fsspec.open(url, "rb").open())
    except (ImportError, ValueError) as error:
        remedy = f"; install {PACKAGES[scheme]} too" if isinstance(error, ImportError) and scheme in PACKAGES else ""
        raise ValueError(f"{scheme}:// cannot be read ({one_line(error)[:120]}){remedy}") from None
