"""Shards from commands and addresses, read without a copy: whatever goes wrong there is tried again or named."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from webdataset.gopen import gopen_schemes

from hear_ssl import download
from hear_ssl.data.shards.cache import is_remote
from hear_ssl.data.stream import fetchers
from hear_ssl.data.stream.shard_copies import ShardCopies
from hear_ssl.data.stream.tar_samples import WHOLE_SHARD, Sample, read_samples
from tests.data.plain_shards import plain_folder
from tests.data.shards.test_cache import Flaky


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return plain_folder(tmp_path / "plain", [40, 3])


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Flaky]]]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    handler = type("Handler", (Flaky,), {"faults": [], "served": [], "gone": {"index.json"}, "index_faults": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(folder), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()


def samples(url: str) -> list[Sample]:
    return list(read_samples(url))


def only_reason(url: str) -> str:
    (sample,) = samples(url)
    assert sample.key == WHOLE_SHARD
    assert "\n" not in sample.reason
    return sample.reason


def test_a_command_streams_what_it_writes(folder: Path) -> None:
    expected = samples(str(folder / "a-000.tar"))
    assert len(expected) == 40
    assert samples(f"pipe:cat {folder}/a-000.tar") == expected
    assert samples(f"pipe:gzip -c {folder}/a-000.tar | gzip -dc") == expected


def test_the_exit_status_of_a_command_counts(folder: Path) -> None:
    """webdataset loses it where the tar ends before the command does."""
    found = samples(f"pipe:cat {folder}/a-001.tar; exit 3")
    assert len(found) == 4
    assert found[-1] == Sample(WHOLE_SHARD, b"", "the command ended with exit status 3")
    assert "exit status 127" in only_reason("pipe:no-such-command")
    assert "exit status 1" in only_reason("pipe:false")
    found = samples(f"pipe:head -c 5000 {folder}/a-001.tar; exit 4")
    assert found[-1].reason


def test_a_command_that_hangs_or_never_ends_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetchers, "TIMEOUT_SECONDS", 0.2)
    begun = time.monotonic()
    assert "wrote nothing for" in only_reason(f"pipe:echo $$ > {tmp_path}/pid; sleep 60")
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    reading = read_samples(f"pipe:echo $$ > {tmp_path}/pid; cat {folder}/a-000.tar; sleep 60")
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_nothing_of_webdataset_starts_curl(server: tuple[str, type[Flaky]]) -> None:
    fetchers.register()
    opened = {handler for scheme, handler in gopen_schemes.items() if scheme != "__default__"}
    assert opened <= {fetchers.open_download, fetchers.open_command}
    assert gopen_schemes["pipe"] is fetchers.open_command


def test_a_server_is_read_once_and_without_a_copy(
    server: tuple[str, type[Flaky]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, handler = server
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("TMPDIR", str(empty))
    assert samples(f"{address}/a-000.tar") == samples(str(folder / "a-000.tar"))
    assert handler.served == ["/a-000.tar"]
    assert not list(empty.iterdir())


@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("fault", ["truncated", "reset", "503", "stall", "trickle", "empty"])
def test_a_server_that_stops_is_asked_again_for_the_rest(server: tuple[str, type[Flaky]], folder: Path, fault: str, ranges: bool) -> None:
    address, handler = server
    handler.ranges, handler.faults[:] = ranges, [fault] * 2
    assert samples(f"{address}/a-000.tar") == samples(str(folder / "a-000.tar"))
    assert handler.faults == []
    if fault == "truncated" and ranges:
        assert " from " in handler.served[1]


@pytest.mark.parametrize(("fault", "reason"), [("404", "is not there"), ("403", "403"), ("500", "6 attempts"), ("reset", "6 attempts")])
def test_a_server_that_refuses_is_named(server: tuple[str, type[Flaky]], fault: str, reason: str) -> None:
    address, handler = server
    handler.faults[:] = [fault] * 6
    assert reason in only_reason(f"{address}/a-000.tar")


def test_a_password_never_appears(server: tuple[str, type[Flaky]]) -> None:
    address, handler = server
    handler.faults[:] = ["403"] * 6
    assert "secret" not in only_reason(address.replace("://", "://me:secret@") + "/a-000.tar?token=secret")


def test_copies_are_kept_only_where_asked_for(server: tuple[str, type[Flaky]], folder: Path, tmp_path: Path) -> None:
    address, handler = server
    copies = ShardCopies(str(tmp_path / "copies"))
    handler.faults[:] = ["truncated"]
    paths = [copies.path(f"{address}/a-001.tar") for _ in range(3)]
    assert samples(paths[0]) == samples(str(folder / "a-001.tar"))
    assert len(set(paths)) == 1
    assert len(handler.served) == 2
    assert copies.path(f"{address}//a-001.tar") not in paths  # webdataset keeps copies by their last name alone
    assert copies.path(f"pipe:cat {folder}/a-001.tar") == f"pipe:cat {folder}/a-001.tar"


def test_a_store_of_fsspec_is_read(folder: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for path in folder.iterdir():
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    try:
        assert is_remote("memory://bucket/a-000.tar")
        assert samples("memory://bucket/a-000.tar") == samples(str(folder / "a-000.tar"))
        assert "cannot be opened" in only_reason("memory://bucket/none.tar")
    finally:
        store.rm("/bucket", recursive=True)
