"""Shards from a real server that truncates, stalls, fails and serves the wrong bytes."""

from __future__ import annotations

import http.server
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.config import DataConfig
from hear_ssl.data import remote
from hear_ssl.data.datamodule import ShardDataModule
from hear_ssl.data.remote import local_copy
from hear_ssl.data.shards import ShardSet
from hear_ssl.data.stream import BatchStream


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `faults` says how the next requests for shards go wrong."""

    faults: list[str]
    served: list[str]

    def do_GET(self) -> None:
        self.served.append(self.path)
        fault = self.faults.pop(0) if self.faults and self.path.endswith(".tar") else ""
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes() if not fault.isdigit() else b""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "truncated":
            content = content[: len(content) // 2]
        if fault == "wrong bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "reset":
            self.connection.close()
            return
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Flaky]]]:
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.001)
    handler = type("Handler", (Flaky,), {"faults": [], "served": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(shards), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()


def test_batches_from_a_server_equal_the_local_ones_and_are_fetched_once(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path
) -> None:
    address, handler = server
    config = DataConfig(shards=[address], cache=str(tmp_path), batch_size=8, crop_seconds=0.5, workers=0)
    data = ShardDataModule(config, 16000, 0)
    local = BatchStream(ShardSet([str(shards)]), config, 16000, 0)
    remote_stream = BatchStream(data.shards, config, 16000, 0)
    for step in range(4):
        assert torch.equal(remote_stream.batch(step).waveform, local.batch(step).waveform)
    ShardDataModule(config, 16000, 0)
    assert sum(path.endswith(".tar") for path in handler.served) == len(list(shards.glob("*.tar")))


@pytest.mark.parametrize("fault", ["500", "503", "truncated", "wrong bytes", "reset"])
def test_a_fault_is_tried_again_until_the_bytes_are_right(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path, fault: str
) -> None:
    address, handler = server
    handler.faults += [fault] * 3
    folder = local_copy(address, tmp_path)
    for path in shards.glob("*.tar"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert handler.faults == []


@pytest.mark.parametrize("fault", ["500", "wrong bytes"])
def test_a_server_that_never_gets_better_is_one_line_and_leaves_no_shard(
    server: tuple[str, type[Flaky]], tmp_path: Path, fault: str
) -> None:
    address, handler = server
    handler.faults += [fault] * 100
    with pytest.raises(ValueError, match=r"cannot be fetched after 6 attempts .* goes on when it answers again") as caught:
        local_copy(address, tmp_path)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tar", ".part")]
    handler.faults.clear()
    local_copy(address, tmp_path)


def test_nothing_at_an_address_is_said_at_once(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    address, handler = server
    handler.faults += ["404"]
    with pytest.raises(ValueError, match=r"is not there; give the address of a folder packed"):
        local_copy(address, tmp_path)
    with pytest.raises(ValueError, match=r"nosuch:// cannot be read"):
        local_copy("nosuch://bucket/shards", tmp_path)


def test_two_folders_of_one_name_do_not_meet_in_the_cache(server: tuple[str, type[Flaky]], tmp_path: Path) -> None:
    address, _ = server
    assert local_copy(address, tmp_path) != local_copy(address.replace("127.0.0.1", "localhost"), tmp_path)


def test_any_fsspec_address_is_read(shards: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    folder = local_copy("memory://bucket", tmp_path)
    assert len(ShardSet([str(folder)]).clips) == len(ShardSet([str(shards)]).clips)


@pytest.mark.slow
def test_processes_share_the_cache_without_fetching_twice(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    address, handler = server
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=local_copy, args=(address, tmp_path)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sum(path.endswith(".tar") for path in handler.served) == len(list(shards.glob("*.tar")))
