"""One process at a time in an output folder, whatever became of the one before."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hear_ssl.folder_lock import LOCK_NAME, FolderBusyError, file_lock, folder_lock
from tests.conftest import ROOT

HOLD = """
import sys, time
from hear_ssl.folder_lock import folder_lock
with folder_lock(sys.argv[1], "wait"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Return a process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_is_held_is_refused_until_its_process_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path / "out")
    try:
        line = r"another process is writing to .*out; give another --out"
        with pytest.raises(FolderBusyError, match=line), folder_lock(tmp_path / "out", "give another --out"):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with folder_lock(tmp_path / "out", ""):
        assert list((tmp_path / "out").iterdir()) == []


def test_waiting_ends_when_the_folder_is_free(tmp_path: Path) -> None:
    process = holder(tmp_path / "out")
    start = time.monotonic()
    with pytest.raises(FolderBusyError, match="another process"), folder_lock(tmp_path / "out", "", wait_seconds=0.5):
        pass
    assert 0.5 <= time.monotonic() - start < 5
    process.kill()
    with folder_lock(tmp_path / "out", "", wait_seconds=5.0):
        pass
    process.wait()


def test_a_folder_made_for_nothing_is_removed_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with folder_lock(tmp_path / "there", ""), folder_lock(tmp_path / "a" / "b", ""):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    with folder_lock(tmp_path / "a" / "b", ""):
        (tmp_path / "a" / "b" / "file").touch()
    assert (tmp_path / "a" / "b" / "file").exists()


def test_what_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="is not a folder; give another one"), folder_lock(path, ""):
            pass


def test_a_folder_of_a_network_file_system_is_held_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS answers EBADF to an exclusive lock of what is not open for writing, as a folder never is."""
    real = fcntl.flock

    def of_nfs(descriptor: int, operation: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    with folder_lock(tmp_path, ""):
        assert (tmp_path / LOCK_NAME).is_file()
        with pytest.raises(FolderBusyError, match="another process"), folder_lock(tmp_path, ""):
            pass
    with folder_lock(tmp_path, ""):
        pass


def test_where_there_are_no_locks_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with folder_lock(tmp_path, ""):
        pass
    assert capsys.readouterr().err.count("\n") == 1


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"\.lock"), file_lock(tmp_path / ".lock", "", 1.0):
        pass
    assert (tmp_path / "victim").read_text() == "kept"
