"""Download weights from their public URL into the user's cache, check their SHA-256 and keep them for offline use.

`open_web`, `Watch` and `blocks` read any http or https address; hear_ssl/download.py uses them.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import urlsplit

from .weights import weights_sha256

ATTEMPTS = 3
TIMEOUT_SECONDS = 30.0
SLOWEST = 10_000  # bytes per second, measured over each TIMEOUT_SECONDS of a connection
BLOCK = 1 << 20  # bytes
LATE = "the server did not answer in time"
ELSEWHERE = "set HEAR_WEIGHTS_CACHE to a folder that can be written, or give load_model a local file"


class Unreachable(OSError):
    """A failure of the network or the server, not of the local disk; `final`: whether another attempt would be useless."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(f"cannot download the weights from {url} ({plain(error)})")
        self.final = isinstance(error, urllib.error.HTTPError) and error.code < 500


class Watch:
    """Close connections that take too long: a server that sends single bytes never exceeds the timeout of one read."""

    def __init__(self, seconds: float) -> None:
        """Start the timer; `feed` restarts it."""
        self.expired = False
        self.sockets: List[socket.socket] = []
        self.closed = threading.Event()
        self.feed(seconds)
        threading.Thread(target=self._wait, daemon=True).start()

    def feed(self, seconds: float) -> None:
        """Let the connection take `seconds` from now on."""
        self.deadline = time.monotonic() + seconds

    def add(self, connected: socket.socket) -> None:
        """Watch a connection; the copy made here stays valid when TLS wraps the socket."""
        self.sockets.append(connected.dup())

    def close(self) -> None:
        """Stop watching."""
        self.closed.set()
        for copy in self.sockets:
            copy.close()

    def _wait(self) -> None:
        while not self.closed.wait(max(0.0, self.deadline - time.monotonic())):
            if time.monotonic() >= self.deadline:
                self.expired = True
                for copy in self.sockets:
                    with contextlib.suppress(OSError):
                        copy.shutdown(socket.SHUT_RDWR)
                self.closed.wait(0.1)  # repeat, so that a connection that is just being opened is closed as well


def watched(kind: Any, watch: Watch) -> Any:
    """Return a subclass of the connection class `kind` that is watched from before the TLS handshake on."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)

    return Plain if kind is http.client.HTTPConnection else type("Secure", (kind, Plain), {})


class WatchedHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Open http and https addresses with watched connections."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def http_open(self, req: Any) -> Any:
        """Open an http address."""
        return self.do_open(watched(http.client.HTTPConnection, self.watch), req)

    def https_open(self, req: Any) -> Any:
        """Open an https address."""
        return self.do_open(watched(http.client.HTTPSConnection, self.watch), req, context=getattr(self, "_context", None))


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https on any host, and redirects within one host; refuse all others.

    GitHub releases and Hugging Face redirect from their own https address to that of a storage host. Downloaded weights are
    checked against the SHA-256 in the manifest, so that no host can replace them. A redirect could still read a local file, or
    send the request unencrypted or into a local network: therefore file:, ftp: and http: are refused. For content that has no
    checksum, anywhere=False refuses all other hosts. Credentials are never sent to another host.
    """

    def __init__(self, anywhere: bool = True) -> None:
        self.anywhere = anywhere

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the redirected request. Raises ValueError when its target is not allowed."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
        shown = plain(f"{new.scheme}://{new.netloc.rpartition('@')[2]}")
        if new.scheme != "https" and not same:
            raise ValueError(f"{req.full_url} redirects to {shown}: refused, only https may lead to another host; ask for the final URL")
        if "@" in new.netloc or (not self.anywhere and old.hostname != new.hostname):
            raise ValueError(f"{req.full_url} redirects to {shown}: refused, it is expected on its own host; ask for the final URL")
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        if same and redirected is not None and "Authorization" in req.unredirected_hdrs:
            redirected.add_unredirected_header("Authorization", req.unredirected_hdrs["Authorization"])
        return redirected

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect. Raises ValueError for schemes other than http and https."""
        place = urlsplit(headers.get("location") or "")
        if place.scheme not in ("", "http", "https"):
            raise ValueError(f"{req.full_url} redirects to a {plain(place.scheme)}: address: refused; ask for the final URL")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def open_web(
    url: str,
    watch: Watch,
    headers: Optional[Dict[str, str]] = None,
    credentials: Optional[Dict[str, str]] = None,
    anywhere: bool = True,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:
    """Return the open response of an http or https URL; `credentials` are headers that are never sent to another host.

    Raises ValueError for another scheme or a refused redirect, OSError when the server refuses or does not answer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is not an http or https address")
    request = urllib.request.Request(url, headers=headers or {})
    for name, value in (credentials or {}).items():
        request.add_unredirected_header(name, value)
    opener = urllib.request.build_opener(WatchedHandler(watch), SafeRedirects(anywhere))
    try:
        answer = opener.open(request, timeout=timeout)
    except (OSError, http.client.HTTPException):
        if watch.expired:
            raise ConnectionError(LATE) from None
        raise
    if watch.expired:  # truncated headers look like complete ones
        answer.close()
        raise ConnectionError(LATE)
    return answer


def blocks(stream: Any, watch: Optional[Watch] = None, seconds: float = TIMEOUT_SECONDS) -> Iterator[bytes]:
    """Yield the received blocks. Raises ConnectionError when they arrive slower than SLOWEST over `seconds`, or stop."""
    read = getattr(stream, "read1", stream.read)  # returns what has arrived, so that a slow connection is noticed
    since, received = time.monotonic(), 0
    while True:
        if watch:
            watch.feed(2.0 * seconds)
        try:
            block = read(BLOCK)
        except (OSError, http.client.HTTPException):
            if watch is None or not watch.expired:
                raise
            block = b""
        if watch and watch.expired:  # a truncated response may look complete
            raise ConnectionError(f"nothing whole arrived for {2.0 * seconds:.0f} s")
        if not block:
            return
        received += len(block)
        yield block
        elapsed = time.monotonic() - since
        if elapsed > seconds:
            if received < SLOWEST * elapsed:
                raise ConnectionError(f"only {received} bytes in {elapsed:.0f} s")
            since, received = time.monotonic(), 0


def plain(text: Any) -> str:
    """Return a server's text on one line, with control characters replaced by question marks."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(str(text).split()))


def check_url(url: str) -> None:
    """Raise ValueError unless the URL is http or https with a host and a file, and without user, line breaks and the like."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:  # an impossible port or IPv6 address
        whole = False
    after_host = url.partition("://")[2].partition("/")[2]
    if not whole or not re.fullmatch(r"[!-~]+", url) or re.search(r"[\"'<>`|\\^{}]", url) or re.search(r"[\[\]]", after_host):
        raise ValueError(f"weights URL {plain(url)[:200]!r} is not allowed; give an http or https address of a file, in plain ASCII")
    if "@" in parts.netloc:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise ValueError(f"weights URL {shown} was given with a user or password, which everyone could read in the package; leave them out")


def cache_folder(package: str) -> Path:
    """Return the folder for downloaded weights: $HEAR_WEIGHTS_CACHE, otherwise a folder of the package in the user's cache.

    Raises OSError when the user has no home folder.
    """
    chosen = os.environ.get("HEAR_WEIGHTS_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / package
    except RuntimeError as error:
        raise OSError(f"no folder for the weights ({error}); {ELSEWHERE}") from None


def fetch_weights(url: str, sha256: str, size: int, package: str) -> Path:
    """Return the local path of the file of `size` bytes at `url` with this SHA-256; download it unless it is in the cache.

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


def download_weights(url: str, sha256: str, size: int, target: Path) -> None:
    """Download a file to `target`, complete and with this SHA-256 or not at all; temporary failures are tried three times.

    At most `size` bytes are read, so that an endless response does not fill the disk.

    Raises ValueError when the URL serves other bytes, Unreachable (an OSError) when it cannot be reached, and other
    OSErrors when the file cannot be written.
    """
    temporary = target.with_name(f".download-{uuid.uuid4().hex}")  # open() sets its permissions by the umask
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
    watch = Watch(TIMEOUT_SECONDS)
    try:
        with open_web(url, watch, timeout=TIMEOUT_SECONDS) as response:
            promised, received = response.length, 0
            for block in blocks(response, watch, TIMEOUT_SECONDS):
                received += len(block)
                yield block
            if promised is not None and received != promised:
                raise EOFError(f"the connection ended after {received} of {promised} bytes")
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise Unreachable(url, error) from None
    finally:
        watch.close()
