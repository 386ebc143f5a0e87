"""Weights from their public URL into a cache of the user's, checked by SHA-256, kept for use offline."""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .weights import sha256_of

ATTEMPTS = 3
TIMEOUT_SECONDS = 30.0


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects from https to https, to any host, and within one host; no others.

    GitHub releases and Hugging Face answer from an https address of theirs with one of a storage host. What arrives is
    checked against the SHA-256 of the manifest, so that no host can slip in other weights; what a redirect could still do
    is to read a local file, or to send the request in the clear or into a local network: hence no file:, ftp: or http:.
    """

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the redirected request; raises ValueError when it leads elsewhere than allowed."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, new.scheme) != ("https", "https") and (old.scheme, old.netloc) != (new.scheme, new.netloc):
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
    """Return the folder for downloaded weights: $HEAR_WEIGHTS_CACHE, else the user's cache folder / package."""
    chosen = os.environ.get("HEAR_WEIGHTS_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / package


def fetch(url: str, sha256: str, size: int, package: str) -> Path:
    """Return the local path of the file of `size` bytes at `url` whose SHA-256 is given, downloading it unless the cache holds it.

    Raises ValueError when the URL is not allowed or serves other bytes, OSError when it cannot be reached.
    """
    check_url(url)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"{sha256!r} is not a SHA-256 of 64 lower-case hex digits")
    target = cache_folder(package) / f"{sha256}.safetensors"
    if target.is_file() and sha256_of(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(url, sha256, size, target)
    except OSError as error:
        raise OSError(f"{error}; give load_model a local file instead") from None
    return target


def download(url: str, sha256: str, size: int, target: Path) -> None:
    """Download a file to `target`, whole and with that SHA-256 or not at all; what may pass is tried three times.

    Nothing is read beyond `size` bytes, so that an answer without end does not fill the disk.

    Raises ValueError when the URL serves other bytes, OSError when it cannot be reached.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(url, sha256, size, target)
        except (OSError, EOFError, http.client.HTTPException) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if attempt == ATTEMPTS or final:
                raise OSError(f"cannot download the weights from {url} ({error})") from None
            time.sleep(0.5 * attempt)


def _attempt(url: str, sha256: str, size: int, target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".download-")
    temporary = Path(name)
    try:
        opener = urllib.request.build_opener(SafeRedirects)
        with os.fdopen(handle, "wb") as file, opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            promised = response.headers.get("Content-Length")
            for block in iter(lambda: response.read(1 << 20), b""):
                file.write(block)
                if file.tell() > size:
                    raise ValueError(f"{url} serves other weights: more than {size} bytes; install the version that matches")
            if promised is not None and file.tell() != int(promised):
                raise EOFError(f"the connection ended after {file.tell()} of {promised} bytes")
        found = sha256_of(temporary)
        if found != sha256:
            raise ValueError(f"{url} serves other weights: SHA-256 {found}, expected {sha256}; install the version that matches")
        os.replace(str(temporary), str(target))
    finally:
        if temporary.exists():
            temporary.unlink()
