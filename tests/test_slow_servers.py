"""Servers that answer byte by byte, for ever, elsewhere or too much: every download ends, with one reason."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request

import pytest

from hear_ssl import download
from hear_ssl.data.shards.fetch import fetch_shard_file
from hear_ssl.data.shards.shard_index import ShardRecord
from hear_ssl.download import open_http, open_unchecked, retry, transfer
from hear_ssl.evaluation.tasks.archive import read_record
from hear_ssl.evaluation.tasks.download import Remote, download_archive
from hear_ssl.model import download as weights

OK = b"HTTP/1.1 200 OK\r\n"
PAUSE = 0.02
LIMIT = 25.0  # seconds for all attempts; each of the servers below would go on for ever


def drip(part: bytes) -> Iterator[bytes]:
    """Yield bytes for ever, one now and then."""
    while True:
        yield part
        time.sleep(PAUSE)


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "status line": lambda: drip(b"H"),
    "name of a header": lambda: iter_of(OK, drip(b"x")),
    "many headers": lambda: iter_of(OK, drip(b"a: b\r\n")),
    "body": lambda: iter_of(OK + b"Content-Length: 100000\r\n\r\n", drip(b"x")),
    "body without length": lambda: iter_of(OK + b"\r\n", drip(b"x")),
    "length of a chunk": lambda: iter_of(OK + b"Transfer-Encoding: chunked\r\n\r\n", drip(b"0")),
    "chunks": lambda: iter_of(OK + b"Transfer-Encoding: chunked\r\n\r\n", drip(b"1\r\nx\r\n")),
    "nothing": lambda: iter_of(b"", silence()),
    "redirects": lambda: iter_of(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 9\r\n\r\n", silence()),
}


def iter_of(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a first part, then the rest."""
    yield first
    yield from rest


def silence() -> Iterator[bytes]:
    """Yield nothing for long."""
    time.sleep(60.0)
    yield b""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Iterator[bytes]]], str]]:
    """Give a function that starts a server of such answers and returns its address."""
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(weights, "TIMEOUT_SECONDS", 0.2)
    listeners: list[socket.socket] = []

    def answer(connection: socket.socket, parts: Iterator[bytes]) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            for part in parts:
                connection.sendall(part)

    def accept(listener: socket.socket, make: Callable[[], Iterator[bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection, make()), daemon=True).start()

    def start(make: Callable[[], Iterator[bytes]]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, make), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


@contextlib.contextmanager
def soon() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < LIMIT


@pytest.mark.parametrize("case", ENDLESS)
def test_every_download_ends(serve: Callable[..., str], tmp_path: Path, case: str) -> None:
    address, file = serve(ENDLESS[case]), io.BytesIO()
    with soon(), pytest.raises(OSError, match=r"attempts|new bytes|HTTP Error|in time"):
        retry(lambda: transfer(f"{address}/a", file), file)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["status line", "body", "length of a chunk"])
def test_shards_indexes_records_tasks_and_weights_share_it(serve: Callable[..., str], tmp_path: Path, case: str) -> None:
    address, folder = serve(ENDLESS[case]), tmp_path
    record = ShardRecord("a.tar", 1, 100_000, "0" * 64, 1.0)
    calls: list[Callable[[], object]] = [
        lambda: fetch_shard_file(f"{address}/a.tar", folder / "a.tar", record),
        lambda: fetch_shard_file(f"{address}/index.json", folder / "index.json", None),
        lambda: read_record(address),
        lambda: download_archive(Remote(f"{address}/a.tar.gz", None, "", 10**6), folder / "a.tar.gz"),
        lambda: weights.download_weights(f"{address}/w", "0" * 64, 100_000, folder / "w"),
    ]
    for call in calls:
        with soon(), pytest.raises((OSError, ValueError)) as error:
            call()
        assert len(str(error.value).splitlines()) == 1
    assert [path for path in folder.iterdir() if path.name in ("a.tar", "index.json", "a.tar.gz", "w")] == []


def test_progress_below_the_slowest_rate_counts_as_none(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt brings new bytes, so that counting anew after any of them would go on for ever."""
    made = []

    def make() -> Iterator[bytes]:
        made.append(1)
        return iter_of(OK + b"Content-Length: 100000\r\n\r\n", drip(b"x" * (2 + len(made))))

    address, file = serve(make), io.BytesIO()
    with soon(), pytest.raises(ConnectionError, match="6 attempts"):
        retry(lambda: transfer(f"{address}/a", file), file)
    assert len(made) == download.ATTEMPTS


def test_a_mirror_that_gives_no_size_is_limited(serve: Callable[..., str], tmp_path: Path) -> None:
    address = serve(lambda: iter_of(OK + b"\r\n", iter(lambda: bytes(1 << 16), b"")))
    with soon(), pytest.raises(ValueError, match="more than the 1000000 bytes"):
        download_archive(Remote(f"{address}/a.tar.gz", limit=1_000_000), tmp_path / "a.tar.gz")


@pytest.mark.parametrize("length", [b"-5", b"abc", b"9" * 40, b"1, 2", b""])
def test_a_length_that_is_none_is_no_reason_by_itself(serve: Callable[..., str], tmp_path: Path, length: bytes) -> None:
    address, file = serve(lambda: iter([OK + b"Content-Length: " + length + b"\r\n\r\nabc"])), io.BytesIO()
    with contextlib.suppress(ConnectionError):  # one that promises more than arrives is still cut off
        transfer(f"{address}/a", file, size=3)
    assert file.getvalue() in (b"abc", b"")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://localhost:PORT/a", "http://user:pw@127.0.0.1:PORT/a", "data:,x"]
)
@pytest.mark.parametrize("opener", [open_http, open_unchecked])
def test_redirects_to_other_schemes_and_hosts_are_refused(serve: Callable[..., str], target: str, opener: download.Opener) -> None:
    other = serve(lambda: iter([OK + b"Content-Length: 3\r\n\r\nabc"]))
    place = target.replace("PORT", other.rpartition(":")[2]).encode()
    address, file = serve(lambda: iter([b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n"])), io.BytesIO()
    with pytest.raises(ValueError, match="redirects to"):
        transfer(f"{address}/a", file, opener=opener)
    assert file.getvalue() == b""


def test_credentials_follow_a_redirect_within_the_host_alone(serve: Callable[..., str]) -> None:
    handler = weights.SafeRedirects()
    for new, kept in (("https://a/y", True), ("https://b/y", False), ("https://a:8443/y", False)):
        request = Request("https://a/x")
        request.add_unredirected_header("Authorization", "Basic hunter2")
        redirected = handler.redirect_request(request, None, 302, "Found", {}, new)
        assert redirected.has_header("Authorization") == kept
    with pytest.raises(ValueError, match="its own host"):
        weights.SafeRedirects(anywhere=False).redirect_request(Request("https://a/x"), None, 302, "Found", {}, "https://b/y")


def test_escape_sequences_of_a_server_do_not_reach_the_terminal(serve: Callable[..., str], tmp_path: Path) -> None:
    address, file = serve(lambda: iter([b"HTTP/1.1 403 \x1b[2Jgone\x07\r\nContent-Length: 0\r\n\r\n"])), io.BytesIO()
    with pytest.raises(OSError, match="403"):
        transfer(f"{address}/a", file)
    for call in (
        lambda: fetch_shard_file(f"{address}/index.json", tmp_path / "index.json", None),
        lambda: read_record(address),
        lambda: weights.download_weights(f"{address}/w", "0" * 64, 9, tmp_path / "w"),
    ):
        with pytest.raises((OSError, ValueError)) as error:
            call()
        assert str(error.value).isprintable()
