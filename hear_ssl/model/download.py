"""Weights from their public URL into a cache of the user's, checked by SHA-256, kept for use offline."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterator
from urllib.parse import urlsplit

from .weights import weights_sha256

ATTEMPTS = 3
TIMEOUT_SECONDS = 30.0
ELSEWHERE = "set HEAR_WEIGHTS_CACHE to a folder that can be written, or give load_model a local file"


class Unreachable(OSError):
    """A fault of the network or of the server, not of this machine's disk; final: another try would not help."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(f"cannot download the weights from {url} ({error})")
        self.final = isinstance(error, urllib.error.HTTPError) and error.code < 500


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https, on any host, and within one host; no others.

    GitHub releases and Hugging Face answer from an https address of theirs with one of a storage host. What arrives is
    checked against the SHA-256 of the manifest, so that no host can slip in other weights; what a redirect could still do
    is to read a local file, or to send the request in the clear or into a local network: hence no file:, ftp: or http:.
    """

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the redirected request; raises ValueError when it leads elsewhere than allowed."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme != "https" and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            shown = f"{new.scheme}://{new.netloc}"
            raise ValueError(f"{req.full_url} redirects to {shown}: refused, only https may lead to another host; ask for the final URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect; raises ValueError at once for schemes that are no web address."""
        place = urlsplit(headers.get("location") or "")
        if place.scheme not in ("", "http", "https"):
            raise ValueError(f"{req.full_url} redirects to a {place.scheme}: address: refused; ask for the final URL")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def check_url(url: str) -> None:
    """Raise ValueError unless the URL is http or https and names a host and a file."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/"):
        raise ValueError(f"weights URL {url!r} is not allowed; give an http or https address of a file")


def cache_folder(package: str) -> Path:
    """Return the folder for downloaded weights: $HEAR_WEIGHTS_CACHE, else the user's cache folder / package.

    Raises OSError when there is none because the user has no home.
    """
    chosen = os.environ.get("HEAR_WEIGHTS_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / package
    except RuntimeError as error:
        raise OSError(f"no folder for the weights ({error}); {ELSEWHERE}") from None


def fetch_weights(url: str, sha256: str, size: int, package: str) -> Path:
    """Return the local path of the file of `size` bytes at `url` whose SHA-256 is given, downloading it unless the cache holds it.

    Raises ValueError when the URL is not allowed or serves other bytes, OSError when it cannot be reached or the cache
    cannot be used.
    """
    check_url(url)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r} is not a SHA-256 of 64 lower-case hex digits")
    target = cache_folder(package) / f"{sha256}.safetensors"
    try:
        if not (target.is_file() and weights_sha256(target) == sha256):
            target.parent.mkdir(parents=True, exist_ok=True)
            download_weights(url, sha256, size, target)
    except Unreachable as error:
        raise OSError(f"{error}; give load_model a local file instead") from None
    except OSError as error:
        raise OSError(f"the weights cannot be kept in {target.parent} ({error.strerror or error}); {ELSEWHERE}") from None
    return target


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give an open file to write to; it appears as `path` when the block ends without an error, and not at all otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(str(temporary), "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(path))
    finally:
        if temporary.exists():
            temporary.unlink()


def download_weights(url: str, sha256: str, size: int, target: Path) -> None:
    """Download a file to `target`, whole and with that SHA-256 or not at all; what may pass is tried three times.

    Nothing is read beyond `size` bytes, so that an answer without end does not fill the disk.

    Raises ValueError when the URL serves other bytes, Unreachable, an OSError, when it cannot be reached, and other
    OSErrors when the file cannot be written.
    """
    temporary = target.with_name(f".download-{uuid.uuid4().hex}")  # open() leaves to the umask who may read it
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _write(temporary, url, size)
                break
            except Unreachable as error:
                if attempt == ATTEMPTS or error.final:
                    raise
                time.sleep(0.5 * attempt)
        found = weights_sha256(temporary)
        if found != sha256:
            raise ValueError(f"{url} serves other weights: SHA-256 {found}, expected {sha256}; install the version that matches")
        os.replace(str(temporary), str(target))
    finally:
        if temporary.exists():
            temporary.unlink()


def _write(path: Path, url: str, size: int) -> None:
    with open(str(path), "wb") as file:
        for block in _blocks(url):
            file.write(block)
            if file.tell() > size:
                raise ValueError(f"{url} serves other weights: more than {size} bytes; install the version that matches")


def _blocks(url: str) -> Iterator[bytes]:
    try:
        with urllib.request.build_opener(SafeRedirects).open(url, timeout=TIMEOUT_SECONDS) as response:
            promised, received = response.headers.get("Content-Length"), 0
            for block in iter(lambda: response.read(1 << 20), b""):
                received += len(block)
                yield block
            if promised is not None and received != int(promised):
                raise EOFError(f"the connection ended after {received} of {promised} bytes")
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise Unreachable(url, error) from None
