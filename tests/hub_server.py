"""A Hugging Face Hub of one model repository on this machine: the part of its HTTP interface with which huggingface_hub reads files."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = "someone/model"
REVISION = "a" * 40


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve the files of a folder as those of REPOSITORY, and give the address of the hub."""

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith(f"/api/models/{REPOSITORY}/tree/"):
                files = [{"type": "file", "oid": REVISION, "size": path.stat().st_size, "path": path.name} for path in folder.iterdir()]
                return self.answer(200, json.dumps(files).encode())
            if self.path.startswith(f"/api/models/{REPOSITORY}"):
                return self.answer(200, json.dumps({"id": REPOSITORY, "sha": REVISION, "private": False, "tags": []}).encode())
            named = re.match(f"/{REPOSITORY}/resolve/[^/]+/([^/]+)$", self.path)
            if not named or not (folder / named[1]).is_file():
                return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            content = (folder / named[1]).read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not asked:
                return self.answer(200, content)
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            return self.answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            given = {"Content-Length": str(len(content)), "X-Repo-Commit": REVISION, "ETag": f'"{REVISION}"', **(headers or {})}
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
