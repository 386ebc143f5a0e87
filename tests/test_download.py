"""The shared downloader against a real server that resumes, breaks off, stalls, slows down, refuses and answers too much."""

from __future__ import annotations

import contextlib
import errno
import http.server
import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from hear_ssl import download
from hear_ssl.download import Answer, is_final, open_http, retry, transfer

CONTENT = bytes(range(256)) * 40
HALF = len(CONTENT) // 2


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `faults` holds how the next requests go wrong, `asked` the byte that each of them started with."""

    faults: list[str]
    asked: list[int]
    ranges = True
    with_length = True

    def do_GET(self) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        start = int(re.sub(r"\D", "", self.headers.get("Range", "")) or 0)
        self.asked.append(start)
        if fault.isdigit():
            return self.send_error(int(fault))
        if self.ranges and start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        begin = start if self.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin + (fault == 'other range')}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_body(CONTENT[begin:], fault)

    def send_body(self, rest: bytes, fault: str) -> None:
        if self.with_length:
            self.send_header("Content-Length", str(len(rest)))
        if fault == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            if fault == "chunked":
                self.wfile.write(b"10\r\nhalf of a chunk")
            elif fault == "slow at the end":
                self.wfile.write(rest[:HALF])
                for byte in rest[HALF : HALF + 200]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            else:
                self.wfile.write(rest[: len(rest) // 2] if fault in ("truncated", "stall") else rest)
            if fault == "stall":
                self.wfile.flush()
                time.sleep(1.0)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Server]]]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    handler = type("Handler", (Server,), {"faults": [], "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/file", handler
        running.shutdown()


def retried(url: str, file: BinaryIO, **options: Any) -> None:
    retry(lambda: transfer(url, file, **options), file)


@pytest.mark.parametrize("fault", ["truncated", "stall", "slow at the end"])
def test_what_arrived_is_not_asked_for_again(server: tuple[str, type[Server]], fault: str) -> None:
    url, handler = server
    handler.faults += [fault, "503"]
    file = io.BytesIO()
    retried(url, file)
    assert file.getvalue() == CONTENT
    first, second, third = handler.asked
    assert first == 0
    assert second == third >= HALF


@pytest.mark.parametrize("fault", ["truncated", "stall", "chunked"])
def test_a_server_that_cannot_resume_starts_again(server: tuple[str, type[Server]], fault: str) -> None:
    url, handler = server
    handler.ranges, handler.with_length = False, fault != "chunked"
    handler.faults += [fault, fault]
    file = io.BytesIO()
    retried(url, file)
    assert file.getvalue() == CONTENT
    assert len(handler.asked) == 3


@pytest.mark.parametrize("present", [1, HALF, len(CONTENT)])
def test_a_file_begun_earlier_is_completed(server: tuple[str, type[Server]], present: int) -> None:
    url, handler = server
    file = io.BytesIO(CONTENT[:present])
    transfer(url, file)
    assert file.getvalue() == CONTENT
    assert handler.asked == [present]


def test_a_whole_file_of_known_size_asks_no_server(server: tuple[str, type[Server]]) -> None:
    transfer(server[0], io.BytesIO(CONTENT), size=len(CONTENT))
    assert server[1].asked == []


def test_a_file_longer_than_what_is_served_starts_again(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    file = io.BytesIO(CONTENT + b"of another file")
    transfer(url, file)
    assert file.getvalue() == CONTENT
    assert handler.asked == [len(CONTENT) + 15, 0]


def test_an_answer_with_another_range_than_asked_for_is_not_appended(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    handler.faults += ["other range"]
    file = io.BytesIO(CONTENT[:HALF])
    transfer(url, file)
    assert file.getvalue() == CONTENT
    assert handler.asked == [HALF, 0]


@pytest.mark.parametrize(("options", "allowed"), [({"size": HALF}, HALF), ({"limit": 100}, 100), ({"size": HALF, "limit": 100}, 100)])
def test_a_download_that_is_too_long_stops_and_leaves_nothing(
    server: tuple[str, type[Server]], options: dict[str, int], allowed: int
) -> None:
    file = io.BytesIO()
    with pytest.raises(ConnectionError, match=f"more than the {allowed} bytes that it should have"):
        transfer(server[0], file, **options)  # type: ignore[arg-type]
    assert file.getvalue() == b""


def test_a_connection_without_length_that_ends_before_the_known_size_is_noticed(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    handler.with_length = False
    handler.faults += ["truncated"]
    with pytest.raises(ConnectionError, match=f"ended after {HALF} of {len(CONTENT)} bytes"):
        transfer(url, io.BytesIO(), size=len(CONTENT))


def test_attempts_are_counted_anew_only_after_new_bytes(server: tuple[str, type[Server]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, handler = server
    pauses: list[float] = []
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr("hear_ssl.download.time.sleep", pauses.append)
    handler.faults += ["500", "500", "truncated"] + ["500"] * 5
    with pytest.raises(ConnectionError, match=r"^6 attempts \(HTTP Error 500: Internal Server Error\)$"):
        retried(url, io.BytesIO())
    assert handler.faults == []
    assert pauses == [1, 2, 1, 2, 4, 8, 16]


def test_a_server_that_breaks_off_at_the_same_byte_is_left(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    handler.ranges = False
    handler.faults += ["truncated"] * 6
    with pytest.raises(ConnectionError, match=f"6 attempts .the connection ended after {HALF} of {len(CONTENT)} bytes"):
        retried(url, io.BytesIO())
    assert handler.faults == []


@pytest.mark.parametrize("status", ["401", "403", "404", "410"])
def test_a_refusal_is_final(server: tuple[str, type[Server]], status: str) -> None:
    url, handler = server
    handler.faults += [status] * 2
    with pytest.raises(FileNotFoundError if status in ("404", "410") else OSError, match=status):
        retried(url, io.BytesIO())
    assert handler.faults == [status]


@pytest.mark.parametrize("status", ["408", "429", "500", "502", "503"])
def test_a_server_that_is_busy_is_asked_again(server: tuple[str, type[Server]], status: str) -> None:
    url, handler = server
    handler.faults += [status] * 5
    file = io.BytesIO()
    retried(url, file)
    assert file.getvalue() == CONTENT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_to_is_final(number: int) -> None:
    assert is_final(OSError(number, "disk"))
    assert not is_final(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert not is_final(TimeoutError())


def test_progress_is_reported_from_the_first_byte_to_the_last(server: tuple[str, type[Server]]) -> None:
    seen: list[tuple[int, int | None]] = []
    transfer(server[0], io.BytesIO(CONTENT[:HALF]), progress=lambda size, end: seen.append((size, end)))
    assert seen[0] == (HALF, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_an_opener_reads_other_addresses_and_its_errors_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    failures = [RuntimeError("an error\nof a store"), ConnectionError()]

    def opener(url: str, start: int) -> Answer:
        if failures:
            raise failures.pop(0)
        return Answer(io.BytesIO(CONTENT))

    file = io.BytesIO(b"begun")
    retried("store://bucket/file", file, opener=opener)
    assert file.getvalue() == CONTENT
    failures += [RuntimeError("an error\nof a store")] * 6
    with pytest.raises(ConnectionError, match=r"^6 attempts \(an error of a store\)$"):
        retried("store://bucket/file", file, opener=opener)


def test_an_address_that_cannot_be_read_is_final() -> None:
    def opener(url: str, start: int) -> Answer:
        raise ValueError("store:// cannot be read")

    with pytest.raises(ValueError, match="store:// cannot be read"):
        retried("store://bucket/file", io.BytesIO(), opener=opener)


def test_an_address_without_a_server_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        open_http("http://127.0.0.1:9/file")
