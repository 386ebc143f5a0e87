"""Downloads from real servers on loopback: which redirects are followed, and what is refused in one line."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hear_ssl.model.download import ATTEMPTS, check_url, download_weights, fetch_weights

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Serve = Callable[..., str]


def handler(location: str, endless: bool) -> type[http.server.BaseHTTPRequestHandler]:
    """Return a server's behaviour: a redirect, the content, or an answer without end."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if location else 200)
            self.send_header("Location", location) if location else None
            self.end_headers()
            try:
                self.wfile.write(b"" if location else CONTENT)
                while endless:
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                return

        def log_message(self, *arguments: object) -> None:
            return

    return Handler


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate of the test's https servers")
    return folder


@pytest.fixture
def serve(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Give a function that starts a server and returns its address; clients trust its certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    running = []

    def start(location: str = "", secure: bool = True, endless: bool = False) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(location, endless))
        running.append(server)
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http{'s' if secure else ''}://localhost:{server.server_port}/weights.safetensors"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_https_leads_to_https_on_another_host(serve: Serve, tmp_path: Path) -> None:
    download_weights(serve(serve()), SHA256, len(CONTENT), tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_http_may_lead_to_https(serve: Serve, tmp_path: Path) -> None:
    download_weights(serve(serve(), secure=False), SHA256, len(CONTENT), tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("place", ["http", "file:///etc/passwd", "ftp://localhost/w", "data:,weights"])
def test_no_redirect_leaves_https_or_the_host(serve: Serve, tmp_path: Path, place: str, secure: bool) -> None:
    url = serve(serve(secure=False) if place == "http" else place, secure=secure)
    with pytest.raises(ValueError, match=r"redirects to .*refused") as caught:
        download_weights(url, SHA256, len(CONTENT), tmp_path / "w")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_answer_without_end_is_left_after_the_size_that_is_due(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 7000 bytes"):
        download_weights(serve(endless=True), SHA256, len(CONTENT), tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_what_the_cache_keeps_is_readable_by_whom_the_umask_allows(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "cache"))
    kept = fetch_weights(serve(), SHA256, len(CONTENT), "hear_name")
    (tmp_path / "other").touch()
    assert kept.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_cache_that_cannot_be_used_is_one_line_and_asks_no_server(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"^the weights cannot be kept in .*cache \(Not a directory\); set HEAR_WEIGHTS_CACHE"):
        fetch_weights("https://localhost:1/w", SHA256, len(CONTENT), "hear_name")
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", "~nobody_of_this_name/cache")
    with pytest.raises(OSError, match=r"^no folder for the weights .*home.*set HEAR_WEIGHTS_CACHE"):
        fetch_weights("https://localhost:1/w", SHA256, len(CONTENT), "hear_name")


def test_a_server_that_is_not_there_is_tried_again_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"cannot download the weights from https://localhost:1/w .*give load_model a local file instead"):
        fetch_weights("https://localhost:1/w", SHA256, len(CONTENT), "hear_name")
    assert len(waits) == ATTEMPTS - 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/w", "data:,w", "/etc/passwd", "https://", "https:///w", "http://host"])
def test_only_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="weights URL"):
        check_url(url)
