"""The official tasks: the list, and archives from a real server that truncates, stalls, lies and packs what it must not."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hear_ssl import download
from hear_ssl.evaluation.report.leaderboard import COLUMNS, column_of
from hear_ssl.evaluation.tasks import archive as archives
from hear_ssl.evaluation.tasks.archive import fetch_tasks
from hear_ssl.evaluation.tasks.download import Remote, download_archive
from hear_ssl.evaluation.tasks.official_tasks import listing, official_tasks
from hear_ssl.evaluation.tasks.task_format import read_task
from tests.conftest import ROOT
from tests.data.sounds import tone, write
from tests.evaluation.test_evaluate import finish

FOLDER = "beijing_opera-v1.0-hear2021-full"
ARCHIVE = f"hear2021-{FOLDER}-48000.tar.gz"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files`, in parts where `ranges` is set; `faults` says how the next requests for archives go wrong."""

    files: dict[str, bytes]
    faults: list[str]
    asked: list[str]
    ranges = True

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        fault = self.faults.pop(0) if self.faults and name.endswith(".gz") else ""
        start = int(re.sub(r"\D", "", self.headers.get("Range", ""))[:20] or 0)
        self.asked.append(f"{name} {start}")
        if fault.isdigit() or name not in self.files:
            return self.send_error(int(fault or 404))
        content = self.files[name]
        if self.ranges and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        begin = start if self.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        rest = content[begin:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if fault == "wrong bytes":
            rest = rest[:-20] + bytes(20)
        self.wfile.write(rest[: len(rest) // 2] if fault == "truncated" else rest)
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, packed: bytes) -> Iterator[tuple[str, type[Server]]]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    handler = type("Handler", (Server,), {"files": {ARCHIVE: packed}, "faults": [], "asked": []})
    publish(handler)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()


def publish(handler: type[Server]) -> None:
    """Write the record of what is served, as Zenodo's API words it."""
    entries = [
        {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
        for name, content in handler.files.items()
        if name.endswith(".gz")
    ]
    handler.files["record.json"] = json.dumps({"id": 6332517, "files": entries}).encode()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a task of three folds at 48 kHz as hear-preprocess does."""
    folder = tmp_path_factory.mktemp("published") / "tasks" / FOLDER
    generator = np.random.default_rng(0)
    for fold in ("fold00", "fold01", "fold02"):
        index = {f"{fold}{number}.wav": [label] for number, label in enumerate(("Bangu", "Daluo"))}
        for number, file in enumerate(index):
            noise = 0.1 * generator.standard_normal(9600).astype(np.float32)
            write(folder / "48000" / fold / file, tone(0.2, 300.0 * (number + 1), 48000) + noise, 48000, "PCM_16")
        (folder / f"{fold}.json").write_text(json.dumps(index))
    finish(folder, ["Bangu", "Daluo"], ["fold00", "fold01", "fold02"], "scene", "multiclass", "new_split_kfold")
    return folder


def pack(task: Path, change: Callable[[tarfile.TarFile], None] = lambda tar: None) -> bytes:
    """Return the archive of a task as it is published, `change`d at its end."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.add(task, f"tasks/{FOLDER}")
        change(tar)
    return content.getvalue()


@pytest.fixture(scope="module")
def packed(task: Path) -> bytes:
    return pack(task)


def same_files(one: Path, other: Path) -> bool:
    paths = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    found = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    return paths == found and all((one / path).read_bytes() == (other / path).read_bytes() for path in paths)


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def test_the_list_has_the_19_tasks_of_the_leaderboard() -> None:
    tasks = official_tasks()
    assert len(tasks) == 19
    assert {column_of(task.folders[0]) for task in tasks} == set(COLUMNS.values())
    assert sum(task.clips for task in tasks) == 266608  # the table on hearbenchmark.com/hear-tasks.html, added up
    assert {task.name for task in tasks if task.audio_bytes is None} == {"fsd50k"}
    assert all(task.source.startswith("http") and task.licence for task in tasks)
    lines = listing().splitlines()
    assert re.match(r"esc50 +2000 +5 +0\.96 +CC BY-NC 3\.0 +https://github\.com/karolpiczak/ESC-50$", lines[9])
    assert re.match(r"gtzan_genre .* see source ", lines[12])


def test_a_task_is_fetched_checked_and_unpacked_once(server: tuple[str, type[Server]], task: Path, tmp_path: Path) -> None:
    address, handler = server
    assert fetch_tasks(["beijing_opera"], tmp_path, address + "/") == 0
    assert same_files(task, tmp_path / FOLDER)
    assert read_task(tmp_path / FOLDER).labels == ("Bangu", "Daluo")
    assert left(tmp_path) == [FOLDER]
    handler.asked.clear()
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 0
    assert handler.asked == ["record.json 0"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_or_starts_again(
    server: tuple[str, type[Server]], task: Path, packed: bytes, tmp_path: Path, ranges: bool
) -> None:
    address, handler = server
    handler.ranges = ranges
    handler.faults += ["truncated", "503"]
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 0
    assert same_files(task, tmp_path / FOLDER)
    half = len(packed) // 2
    assert handler.asked == ["record.json 0", f"{ARCHIVE} 0", f"{ARCHIVE} {half}", f"{ARCHIVE} {half}"]


def test_a_killed_download_goes_on_in_the_next_command(server: tuple[str, type[Server]], task: Path, packed: bytes, tmp_path: Path) -> None:
    address, handler = server
    handler.faults += ["truncated"] + ["500"] * 6
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 1
    assert left(tmp_path) == [f".{ARCHIVE}.part"]
    handler.faults.clear()
    handler.asked.clear()
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 0
    assert handler.asked[1] == f"{ARCHIVE} {len(packed) // 2}"
    assert same_files(task, tmp_path / FOLDER)
    assert left(tmp_path) == [FOLDER]


def test_what_lies_there_of_another_file_is_fetched_again(server: tuple[str, type[Server]], task: Path, tmp_path: Path) -> None:
    address, handler = server
    (tmp_path / f".{ARCHIVE}.part").write_bytes(b"of an earlier version")
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 0
    assert same_files(task, tmp_path / FOLDER)
    assert handler.asked[1:] == [f"{ARCHIVE} 21", f"{ARCHIVE} 0"]


@pytest.mark.parametrize("length", [0, 1])
def test_a_whole_or_longer_part_without_a_record_is_settled_by_the_server(
    server: tuple[str, type[Server]], packed: bytes, tmp_path: Path, length: int
) -> None:
    address, _ = server
    (tmp_path / f".{ARCHIVE}.part").write_bytes(packed + b"x" * length)
    download_archive(Remote(f"{address}/{ARCHIVE}"), tmp_path / ARCHIVE)
    assert (tmp_path / ARCHIVE).read_bytes() == packed


def failure(server: tuple[str, type[Server]], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Fetch, expect it to fail with one line and to leave no task, and return the line."""
    assert fetch_tasks(["beijing_opera"], out, server[0]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("beijing_opera: ")
    assert not (out / FOLDER).exists()
    return line


@pytest.mark.parametrize(
    ("faults", "line"),
    [
        (["404"], r"is not there \(HTTP 404\)"),
        (["403"], "403"),
        (["500"] * 6, "stopped after 0 bytes .* the same command resumes"),
        (["wrong bytes"], "serves other bytes than published"),
    ],
)
def test_a_server_that_fails_is_one_line(
    server: tuple[str, type[Server]], tmp_path: Path, faults: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server[1].faults += faults
    assert re.search(line, failure(server, tmp_path, capsys))
    assert server[1].faults == []
    assert fetch_tasks(["beijing_opera"], tmp_path, server[0]) == 0


def test_wrong_bytes_are_seen_without_a_published_checksum(
    server: tuple[str, type[Server]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, handler = server
    del handler.files["record.json"]
    handler.faults += ["wrong bytes"]
    assert "is damaged" in failure(server, tmp_path, capsys)
    assert left(tmp_path) == []
    assert fetch_tasks(["beijing_opera"], tmp_path, address) == 0
    assert "no checksum is published there" in capsys.readouterr().out


def member(name: str, content: bytes = b"x", **fields: Any) -> Callable[[tarfile.TarFile], None]:
    """Return what adds a member to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content) if not fields else 0
    for field, value in fields.items():
        setattr(entry, field, value)
    return lambda tar: tar.addfile(entry, io.BytesIO(content))


INSIDE = f"tasks/{FOLDER}"
UNSAFE = {
    "parent": (member(f"{INSIDE}/../../../evil.txt"), "leads outside"),
    "absolute": (member("/tmp/hear_ssl_evil.txt"), "leads outside"),
    "another task": (member("tasks/esc50-v2.0.0-full/train.json"), "leads outside"),
    "beside": (member("evil.txt"), "leads outside"),
    "symbolic link": (member(f"{INSIDE}/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link or device"),
    "hard link": (member(f"{INSIDE}/link", type=tarfile.LNKTYPE, linkname=f"{INSIDE}/fold00.json"), "is a link or device"),
    "device": (member(f"{INSIDE}/zero", type=tarfile.CHRTYPE), "is a link or device"),
    "twice": (member(f"{INSIDE}/fold00.json", b"{}"), "holds fold00.json twice"),
    "name too long": (member(f"{INSIDE}/{'a' * 300}"), "cannot be a file here (File name too long)"),
    "file for folder": (member(INSIDE), "is not in"),
}


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_an_unsafe_archive_is_refused_and_leaves_nothing(
    server: tuple[str, type[Server]], task: Path, tmp_path: Path, unsafe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, line = UNSAFE[unsafe]
    server[1].files[ARCHIVE] = pack(task, change)
    publish(server[1])
    out = tmp_path / "deep" / "out"
    assert line in failure(server, out, capsys)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not Path("/tmp/hear_ssl_evil.txt").exists()


def test_an_archive_that_lies_there_is_checked(
    server: tuple[str, type[Server]], task: Path, packed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ARCHIVE).write_bytes(pack(task, member(f"{INSIDE}/more.txt")))
    assert "is not the archive published at" in failure(server, tmp_path, capsys)
    assert left(tmp_path) == [ARCHIVE]
    (tmp_path / ARCHIVE).write_bytes(packed)
    assert fetch_tasks(["beijing_opera"], tmp_path, server[0]) == 0


def test_an_archive_that_unpacks_to_too_much_is_refused(
    server: tuple[str, type[Server]], task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archives, "size_limit", lambda official: 200_000)
    server[1].files[ARCHIVE] = pack(task, member(f"{INSIDE}/zeros", bytes(300_000)))
    publish(server[1])
    assert "unpacks to more than" in failure(server, tmp_path, capsys)
    server[1].files[ARCHIVE] = gzip.compress(gzip.decompress(pack(task)) + bytes(32 << 20))
    monkeypatch.undo()
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    publish(server[1])
    assert "more than padding follows" in failure(server, tmp_path, capsys)
    assert left(tmp_path) == []


def test_an_archive_without_a_clip_it_names_is_no_task(
    server: tuple[str, type[Server]], task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.add(task, f"tasks/{FOLDER}", filter=lambda entry: None if entry.name.endswith("fold011.wav") else entry)
    server[1].files[ARCHIVE] = content.getvalue()
    publish(server[1])
    line = failure(server, tmp_path, capsys)
    assert "holds no whole task" in line
    assert f"{FOLDER}/48000/fold01/fold011.wav is missing" in line


def test_one_task_that_fails_leaves_the_others(
    server: tuple[str, type[Server]], task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch_tasks(["esc50", "beijing_opera"], tmp_path, server[0]) == 1
    assert "has no hear2021-esc50-v2.0.0-full-48000.tar.gz" in capsys.readouterr().err
    assert same_files(task, tmp_path / FOLDER)


def test_two_commands_do_not_write_into_one_download(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    code = "import fcntl,sys,time; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"
    part = tmp_path / f".{ARCHIVE}.part"
    with subprocess.Popen([sys.executable, "-c", code, str(part)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match=r"is being fetched into .* by another process"):
            download_archive(Remote(f"{server[0]}/{ARCHIVE}"), tmp_path / ARCHIVE)
        other.kill()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hear_ssl.evaluation.tasks", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_lists_fetches_and_names_mistakes(server: tuple[str, type[Server]], tmp_path: Path) -> None:
    address, handler = server
    assert command().stdout == listing() + "\n"
    assert command("fetch", "beijing_opera", "--out", str(tmp_path), "--from", address).returncode == 0
    assert left(tmp_path) == [FOLDER]
    for arguments, line in (
        (["esc5", "--from", address], "there is no task 'esc5' (did you mean 'esc50'?)"),
        (["esc50", "--from", "ftp://host/x"], "not an http or https address"),
        (["esc50", "--from", "http://127.0.0.1:9"], "does not answer"),
    ):
        result = command("fetch", *arguments, "--out", str(tmp_path / "other"))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert line in result.stderr
    handler.files["record.json"] = b"<html>"
    assert "is not the JSON of a Zenodo record" in command("fetch", "esc50", "--out", str(tmp_path), "--from", address).stderr
    assert not (tmp_path / "other").exists()
