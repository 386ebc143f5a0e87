"""Shards from a real server that truncates, stalls, fails and serves the wrong bytes."""

from __future__ import annotations

import contextlib
import errno
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl import download
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards import cache as remote
from hear_ssl.data.shards.cache import ShardCache, locked
from hear_ssl.data.shards.reader import RETRY_SECONDS, ShardSet
from hear_ssl.data.shards.shard_index import ShardRecord, read_index, write_index
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.files import sha256_of
from hear_ssl.training.datamodule import ShardDataModule
from tests.data.reading import clip_numbers
from tests.data.shards.test_reader import shard_folder


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `faults` says how the next requests for shards go wrong."""

    faults: list[str]
    served: list[str]
    gone: set[str]
    index_faults: list[str]
    ranges = False

    def do_GET(self) -> None:
        self.served.append(self.path)
        fault = self.faults.pop(0) if self.faults and self.path.endswith(".tar") else ""
        fault = self.index_faults.pop(0) if self.index_faults and self.path.endswith("index.json") else fault
        fault = "404" if self.path.lstrip("/") in self.gone else fault
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes() if not fault.isdigit() else b""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.served[-1] += f" from {start}"
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            content = content[start:]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "truncated":
            content = content[: len(content) // 2]
        if fault == "empty":
            content = b""
        if fault == "wrong bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "trickle":
            for place in range(0, 2000, 100):
                self.wfile.write(content[place : place + 100])
                self.wfile.flush()
                time.sleep(0.05)
            return
        if fault == "hang":
            time.sleep(30.0)
            return
        if fault == "stall":
            self.wfile.write(content[:100])
            self.wfile.flush()
            time.sleep(1.0)
            return
        if fault == "reset":
            self.connection.close()
            return
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Flaky]]]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    handler = type("Handler", (Flaky,), {"faults": [], "served": [], "gone": set(), "index_faults": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(shards), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()


def fetched(address: str, cache: Path, limit_gb: float = 0.0) -> Path:
    """Fetch all shards of an address and return their folder."""
    shards = ShardCache(address, cache, limit_gb)
    shards.fetch_all(shards.index())
    return shards.folder


def test_batches_from_a_server_equal_the_local_ones_and_are_fetched_once(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path
) -> None:
    address, handler = server
    config = DataConfig(shards=[address], cache=str(tmp_path), batch_size=8, crops=[CropConfig(0.5)], workers=0)
    data = ShardDataModule(config, 16000, 0)
    local = BatchStream(ShardSet([str(shards)]), config, 16000, 0)
    remote_stream = BatchStream(data.shards, config, 16000, 0)
    for step in range(4):
        assert torch.equal(remote_stream.batch(step).waveform, local.batch(step).waveform)
    ShardDataModule(config, 16000, 0)
    assert sum(path.endswith(".tar") for path in handler.served) == len(list(shards.glob("*.tar")))


@pytest.mark.parametrize("fault", ["500", "503", "empty", "truncated", "wrong bytes", "reset", "stall", "trickle"])
def test_a_fault_is_tried_again_until_the_bytes_are_right(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path, fault: str
) -> None:
    address, handler = server
    handler.faults += [fault] * 3
    folder = fetched(address, tmp_path)
    for path in shards.glob("*.tar"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert handler.faults == []


def test_a_shard_that_broke_off_is_resumed_and_one_with_wrong_bytes_starts_again(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path
) -> None:
    address, handler = server
    handler.ranges = True
    handler.faults += ["truncated", "wrong bytes"]
    folder = fetched(address, tmp_path)
    first = read_index(shards).shards[0]
    assert handler.served[1:4] == [f"/{first.name}", f"/{first.name} from {first.bytes // 2}", f"/{first.name}"]
    assert (folder / first.name).read_bytes() == (shards / first.name).read_bytes()


def test_a_refusal_is_final_and_the_index_fetched_earlier_is_used(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    address, handler = server
    handler.faults += ["403"]
    with pytest.raises(ValueError, match=r"train-000000.tar cannot be fetched \(HTTP Error 403: Forbidden\); the same command resumes"):
        fetched(address, tmp_path)
    handler.index_faults = ["403"]
    assert ShardCache(address, tmp_path).index() == read_index(shards)
    assert len(handler.served) == 3


@pytest.mark.parametrize("fault", ["500", "truncated", "empty", "reset", "stall"])
def test_a_fault_in_the_index_is_tried_again(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path, fault: str) -> None:
    address, handler = server
    handler.index_faults = [fault] * 3
    assert ShardCache(address, tmp_path).index() == read_index(shards)
    assert len(handler.served) == 4


@pytest.mark.parametrize("fault", ["500", "wrong bytes"])
def test_a_server_that_never_gets_better_is_one_line_and_leaves_no_shard(
    server: tuple[str, type[Flaky]], tmp_path: Path, fault: str
) -> None:
    address, handler = server
    handler.faults += [fault] * 100
    with pytest.raises(ValueError, match=r"cannot be fetched after 6 attempts .* resumes when it answers again") as caught:
        fetched(address, tmp_path)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tar", ".part")]
    handler.faults.clear()
    fetched(address, tmp_path)


def test_nothing_at_an_address_is_said_at_once(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    address, handler = server
    handler.faults += ["404"]
    with pytest.raises(ValueError, match=r"is not there; give the address of a folder that hear-ssl pack wrote"):
        fetched(address, tmp_path)
    with pytest.raises(ValueError, match=r"nosuch:// cannot be read"):
        fetched("nosuch://bucket/shards", tmp_path)


def test_two_folders_of_one_name_do_not_meet_in_the_cache(server: tuple[str, type[Flaky]], tmp_path: Path) -> None:
    address, _ = server
    assert fetched(address, tmp_path) != fetched(address.replace("127.0.0.1", "localhost"), tmp_path)


def test_any_fsspec_address_is_read(shards: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    folder = fetched("memory://bucket", tmp_path)
    assert len(ShardSet([str(folder)]).clips) == len(ShardSet([str(shards)]).clips)


FETCH = "import sys; from hear_ssl.data.shards.cache import ShardCache; c = ShardCache(*sys.argv[1:3], 1.0); c.fetch_all(c.index())"


def fetching(address: str, cache: Path) -> subprocess.Popen[bytes]:
    """Start a process that fetches all shards of an address."""
    return subprocess.Popen([sys.executable, "-c", FETCH, address, str(cache)], stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_processes_share_the_cache_without_fetching_twice(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    address, handler = server
    processes = [fetching(address, tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sum(path.endswith(".tar") for path in handler.served) == len(list(shards.glob("*.tar")))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Flaky], Path]]:
    """Serve eight shards of 25 clips."""
    folder = shard_folder(tmp_path / "served", (25,) * 8)
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    handler = type("Handler", (Flaky,), {"faults": [], "served": [], "gone": set(), "index_faults": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(folder), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler, folder
        running.shutdown()


def used(cache: Path) -> int:
    with locked(cache / ".lock"):  # none is given up meanwhile, and one that comes has its room already
        return sum(path.stat().st_size for path in cache.rglob("*.tar"))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_data_larger_than_the_cache_streams_in_windows_within_its_bound(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, workers: int
) -> None:
    address, handler, folder = many
    size = max(record.bytes for record in read_index(folder).shards)
    bound = 2.5 * size / 1e9
    options: dict[str, Any] = {"batch_size": 10, "crops": [CropConfig(0.05)], "workers": workers, "window_shards": 1}
    config = DataConfig(shards=[address], cache=str(tmp_path / "cache"), cache_gb=bound, **options)
    data = ShardDataModule(config, 16000, 0)
    assert used(tmp_path / "cache") == 0  # nothing is fetched before it is needed
    local = BatchStream(ShardSet([str(folder)]), config, 16000, 0)
    most = 0
    for step, batch in zip(range(40), data.train_dataloader(), strict=False):  # two passes
        expected = local.batch(step)
        assert torch.equal(batch.waveform, expected.waveform)
        assert (batch.keys, batch.lost) == (expected.keys, [])
        most = max(most, used(tmp_path / "cache"))
    assert size < most <= 2.5 * size
    requests = [path for path in handler.served if path.endswith(".tar")]
    assert 8 < len(requests) <= 3 * 8  # at most once a pass, and what was prefetched for the third


@pytest.fixture
def coming(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> Iterator[tuple[ShardCache, list[ShardRecord], contextlib.ExitStack]]:
    """Give a cache with room for one of two shards, the two, the first of them being fetched, and what ends that fetch once closed."""
    address, _, folder = many
    records = list(read_index(folder).shards[:2])
    cache = ShardCache(address, tmp_path / "cache", (sum(record.bytes for record in records) - 1) / 1e9)
    with contextlib.ExitStack() as fetching:
        fetching.enter_context(locked(cache.folder / f".{records[0].name}.lock"))
        fetching.enter_context(cache.room(records[0]))
        yield cache, records, fetching


def test_a_fetch_waits_while_another_leaves_no_room(
    many: tuple[str, type[Flaky], Path], coming: tuple[ShardCache, list[ShardRecord], contextlib.ExitStack]
) -> None:
    cache, (_, record), fetching = coming
    other = threading.Thread(target=cache.path, args=(record,))
    other.start()
    other.join(0.3)
    assert other.is_alive()
    assert many[1].served == []
    fetching.close()
    other.join(20)
    assert many[1].served == [f"/{record.name}"]


def test_a_fetch_that_ends_while_room_is_made_for_another_is_counted(
    coming: tuple[ShardCache, list[ShardRecord], contextlib.ExitStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, (first, record), fetching = coming
    listed = remote.used_last

    def fetch_ends_behind(paths: Iterable[Path]) -> list[tuple[float, int, Path]]:
        found = listed(paths)
        (cache.folder / first.name).write_bytes(bytes(first.bytes))
        fetching.close()
        monkeypatch.setattr(remote, "used_last", listed)
        return found

    monkeypatch.setattr(remote, "used_last", fetch_ends_behind)
    cache.path(record)
    assert [path.name for path in cache.folder.glob("*.tar")] == [record.name]


def test_the_room_of_a_fetch_that_crashed_does_not_keep_the_same_shard_out(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, _, folder = many
    record = read_index(folder).shards[0]
    cache = ShardCache(address, tmp_path / "cache", 1.5 * record.bytes / 1e9)
    (cache.folder / f".{record.name}.room.part").write_bytes(bytes(record.bytes))
    other = threading.Thread(target=cache.path, args=(record,), daemon=True)
    other.start()
    other.join(20)
    assert not other.is_alive()
    assert [path.name for path in cache.folder.glob("*.tar")] == [record.name]


def test_the_next_window_is_there_before_it_is_needed(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, _, _ = many
    config = DataConfig(shards=[address], cache=str(tmp_path / "cache"), batch_size=10, crops=[CropConfig(0.05)], window_shards=2)
    stream = BatchStream(ShardSet([address], config.cache), config, 16000, 0)
    iterator = iter(stream)
    next(iterator)
    wanted = [stream.shards.shards[number] for number in stream.order.upcoming(0)]
    deadline = time.monotonic() + 20
    while not all(source.cache and (source.cache.folder / record.name).exists() for source, record in wanted):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(wanted) == 2


def test_a_shard_given_up_by_the_cache_is_fetched_again(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, handler, folder = many
    shards, local = ShardSet([address], tmp_path / "cache"), ShardSet([str(folder)])
    clip = shards.clip(3)
    Path(clip.shard).unlink()
    assert shards.audio(clip) == local.audio(local.clip(3))
    assert len(handler.served) == 3


@pytest.mark.parametrize(("window", "line"), [(0, "set data.window_shards to 1"), (3, "set data.window_shards to 1")])
def test_a_cache_too_small_for_the_windows_is_said_before_anything_is_fetched(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, window: int, line: str
) -> None:
    address, handler, folder = many
    size = max(record.bytes for record in read_index(folder).shards)
    config = DataConfig(shards=[address], cache=str(tmp_path / "cache"), cache_gb=2.5 * size / 1e9, window_shards=window)
    with pytest.raises(ValueError, match=line):
        ShardDataModule(config, 16000, 0)
    with pytest.raises(ValueError, match="it must hold two shards"):
        ShardDataModule(replace(config, cache_gb=1.5 * size / 1e9, window_shards=1), 16000, 0)
    assert not [path for path in handler.served if path.endswith(".tar")]


@pytest.mark.parametrize("window", [0, 4])
def test_a_shard_that_is_gone_is_lost_by_name_up_to_the_fraction_allowed(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, window: int
) -> None:
    address, handler, folder = many
    handler.gone = {"train-000003.tar"}
    options: dict[str, Any] = {"batch_size": 10, "crops": [CropConfig(0.05)], "workers": 0, "window_shards": window}
    config = DataConfig(shards=[address], cache=str(tmp_path / "cache"), max_lost_fraction=0.2, **options)
    data = ShardDataModule(config, 16000, 0)
    local = BatchStream(ShardSet([str(folder)]), config, 16000, 0)
    stream = BatchStream(data.shards, config, 16000, 0)
    for step in range(20):
        batch, expected = stream.batch(step), local.batch(step)
        numbers = clip_numbers(local, expected)
        data.count(batch)
        for row, key in enumerate(expected.keys):
            if 75 <= numbers[row] < 100:
                assert batch.keys[row] != key
            else:
                assert torch.equal(batch.waveform[row], expected.waveform[row])
    assert data.unreadable.lost.keys() == {f"{address}/train-000003.tar"}
    assert data.unreadable.lost.total() >= 25
    if not window:
        with pytest.raises(ValueError, match=r"train-000003.tar is not there"):
            ShardDataModule(replace(config, max_lost_fraction=0.01), 16000, 0)


def test_shards_packed_anew_at_one_address_are_fetched_again(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, handler, folder = many
    cached = fetched(address, tmp_path / "cache")
    path, index = folder / "train-000002.tar", read_index(folder)
    content = path.read_bytes()
    clip = ShardSet([str(folder)]).clips[60]
    path.write_bytes(content[: clip.offset + 60] + bytes([content[clip.offset + 60] ^ 1]) + content[clip.offset + 61 :])
    records = tuple(replace(record, sha256=sha256_of(path)) if record.name == path.name else record for record in index.shards)
    write_index(folder, replace(index, shards=records))
    before = len(handler.served)
    assert (fetched(address, tmp_path / "cache") / path.name).read_bytes() == path.read_bytes()
    assert handler.served[before:] == ["/index.json", "/train-000002.tar"]
    (cached / "train-000001.clips").unlink()  # as an older cache left it, or a crash
    fetched(address, tmp_path / "cache")
    assert handler.served[before + 2 :] == ["/index.json"]
    assert (cached / "train-000001.clips").is_file()


def test_a_shard_that_could_not_be_fetched_is_asked_for_again_after_a_while(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, handler, folder = many
    shards, local = ShardSet([address], tmp_path / "cache"), ShardSet([str(folder)])
    handler.faults += ["500"] * 6
    for _ in range(3):
        with pytest.raises(ValueError, match="cannot be fetched after 6 attempts"):
            shards.clip(30)
    assert sum(path.endswith(".tar") for path in handler.served) == 6
    later = time.monotonic() + RETRY_SECONDS + 1
    monkeypatch.setattr("hear_ssl.data.shards.reader.time.monotonic", lambda: later)
    assert shards.clip(30).key == local.clip(30).key
    assert shards.clip(31).key == local.clip(31).key
    assert sum(path.endswith(".tar") for path in handler.served) == 7


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_to_is_said_at_once(
    server: tuple[str, type[Flaky]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    attempts = []

    def full(url: str, *arguments: Any, **options: Any) -> None:
        attempts.append(url)
        raise OSError(number, os.strerror(number))

    cache = ShardCache(server[0], tmp_path)
    index = cache.index()
    monkeypatch.setattr("hear_ssl.data.shards.fetch.transfer", full)
    with pytest.raises(ValueError, match=rf"cannot be written to .*: {os.strerror(number)}; see data.cache"):
        cache.fetch_all(index)
    assert len(attempts) == 1


def test_pairs_of_an_address_in_windows_begin_with_one_shard(server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path) -> None:
    from tests.data.stream.test_batch_stream import paired

    pairs = paired(tmp_path / "pairs", [300.0 + 50 * n for n in range(6)], {0: 1, 1: 2, 2: 0, 3: 4, 4: 3, 5: 0}, per_shard=3)
    _, handler = server
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(pairs), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        options: dict[str, Any] = {"batch_size": 2, "crops": [CropConfig(0.05)], "window_shards": 1, "positives": "pairs"}
        config = DataConfig(shards=[f"http://127.0.0.1:{running.server_port}"], cache=str(tmp_path / "cache"), **options)
        data = ShardDataModule(config, 16000, 0)
        assert sum(path.endswith(".tar") for path in handler.served) == 1
        lost = [loss for step in range(3) for loss in BatchStream(data.shards, config, 16000, 0).batch(step).lost]
        assert lost
        assert all("'x0' is not in its shard, the only one searched with data.window_shards" in loss.reason for loss in lost)
        running.shutdown()


def test_what_a_crash_left_is_removed_at_once_and_what_another_process_writes_is_not(tmp_path: Path) -> None:
    folder = ShardCache("http://example.com/shards", tmp_path).folder
    names = {
        ".a.tar.1.0123abcd.part": ".a.tar.lock",
        ".a.clips.1.0123abcd.part": ".a.tar.lock",
        ".a.b.tar.room.part": ".a.b.tar.lock",
        ".index.json.1.0123abcd.part": ".lock",
    }
    for name in names:
        (folder / name).write_bytes(b"half")
    with locked(folder / ".a.b.tar.lock"):
        ShardCache("http://example.com/shards", tmp_path)
        assert [path.name for path in folder.glob("*.part")] == [".a.b.tar.room.part"]
    ShardCache("http://example.com/shards", tmp_path)
    assert not list(folder.glob("*.part"))


@pytest.mark.slow
def test_a_process_killed_while_it_fetches_leaves_nothing_that_counts(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, handler, folder = many
    record = read_index(folder).shards[0]
    handler.faults += ["hang"]
    process = fetching(address, tmp_path / "cache")
    deadline = time.monotonic() + 20
    while not list((tmp_path / "cache").glob("*/.*.room.part")) or "hang" in handler.faults:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    cache = ShardCache(address, tmp_path / "cache", 1.1 * record.bytes / 1e9)
    assert not list(cache.folder.glob("*.part"))
    assert cache.path(record).read_bytes() == (folder / record.name).read_bytes()


def test_the_index_fetched_earlier_serves_while_the_address_is_silent(
    server: tuple[str, type[Flaky]], shards: Path, tmp_path: Path
) -> None:
    address, _ = server
    fetched(address, tmp_path)
    dead = ShardCache("http://127.0.0.1:9", tmp_path)
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/index.json cannot be fetched after 6 attempts"):
        dead.index()
    (dead.folder / "index.json").write_bytes((shards / "index.json").read_bytes())
    assert dead.index() == read_index(shards)
