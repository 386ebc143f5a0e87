"""What is read is what was written, and what cannot be written is named."""

from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_ssl.checkpoint import load_checkpoint, load_tensors, save_tensors
from hear_ssl.errors import run_main
from hear_ssl.files import add_checksum, atomic_path, atomic_write, check_zip, read_json, read_metrics, read_rows, remove_parts
from tests.conftest import ROOT

CONTENT = {"state_dict": {str(number): torch.arange(float(number + 3)) for number in range(20)}, "config": {"name": "a"}, "n": [1, 2.5]}


def flipped(content: bytes, seed: int) -> bytes:
    """Return the bytes with one bit of one byte flipped."""
    generator = random.Random(seed)
    place, bit = generator.randrange(len(content)), generator.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_a_checkpoint_with_any_byte_flipped_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "step-00000004.ckpt"
    save_tensors(CONTENT, path)
    (tmp_path / "step-00000002.ckpt").touch()
    assert torch.equal(load_checkpoint(path)["state_dict"]["5"], torch.arange(8.0))
    content = path.read_bytes()
    for seed in range(100):
        path.write_bytes(flipped(content, seed))
        with pytest.raises(ValueError, match=r"step-00000004.ckpt is damaged .*; use an earlier one, such as .*step-00000002.ckpt$"):
            load_checkpoint(path)


def test_a_file_of_torch_alone_never_loads_with_other_tensors(tmp_path: Path) -> None:
    """It has checksums of its members, and none of the padding between them."""
    torch.save(CONTENT, tmp_path / "a.ckpt")
    content, refused = (tmp_path / "a.ckpt").read_bytes(), 0
    for seed in range(100):
        (tmp_path / "a.ckpt").write_bytes(flipped(content, seed))
        try:
            state = load_checkpoint(tmp_path / "a.ckpt")["state_dict"]
        except ValueError:
            refused += 1
            continue
        assert all(torch.equal(state[name], tensor) for name, tensor in CONTENT["state_dict"].items())  # type: ignore[attr-defined]
    assert refused > 50


@pytest.mark.parametrize("cut", [1, 14, 22, 500, 5000])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, cut: int) -> None:
    save_tensors(CONTENT, tmp_path / "a.ckpt")
    content = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(content[:-cut])
    with pytest.raises(ValueError, match=r"a.ckpt is damaged"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_tensors(CONTENT, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_tensors(tmp_path / "a")["n"] == [1, 2.5]


def test_an_archive_whose_header_asks_for_fewer_bytes_is_refused(tmp_path: Path) -> None:
    """numpy reads what the header of an array asks for, and compares the checksum only at the member's end."""
    path = tmp_path / "a.npz"
    np.savez(path, rows=np.arange(400_000.0).reshape(1000, 400))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(1000, 400)", b"(1000, 200)"))
    with np.load(path) as stored:
        assert stored["rows"].shape == (1000, 200)
    with pytest.raises(zipfile.BadZipFile):
        check_zip(path)
    path.write_bytes(content)
    add_checksum(path)
    check_zip(path)
    with np.load(path) as stored:
        assert stored["rows"].shape == (1000, 400)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_could_unpack_to_any_size_is_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w", method) as archive:
        archive.writestr("a", bytes(10_000_000))
    with pytest.raises(ValueError, match="would unpack to 10000000"):
        check_zip(tmp_path / "a")


def test_an_archive_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    with pytest.raises(ValueError, match="one name"):
        check_zip(tmp_path / "a")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": 1', b"\xff\xfe", b"", b"1" * 5000])
def test_json_that_is_damaged_or_too_deep_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged \("):
        read_json(tmp_path / "a.json")


def test_a_half_written_last_row_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,rank\n1,0.5,\n2,0.25,3\n3,0.1")
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")[1]] == ["1", "2"]
    (tmp_path / "metrics.csv").write_text("")
    assert read_metrics(tmp_path / "metrics.csv") == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        b"step,loss\n1,0.5\n\xff\xfe,1\n",
        "step,loss\n1,0.5\n".encode("utf-16"),
        b"step,loss\n1,0.5\n2,\x00\n3,1\n",
        b"step,loss\n1\n2,0.5\n",
        b"step,loss\n1,2,3\n2,0.5\n",
        b"step,loss\n1,many\n",
        b"loss\n1\n",
        b'step,loss\n1,"' + b"x" * 200_000 + b'"\n2,1\n',
    ],
    ids=["utf-8", "utf-16", "nul", "short row", "long row", "no number", "no step", "huge"],
)
def test_metrics_that_are_damaged_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged .*; repair or remove it, nothing else is lost"):
        read_metrics(tmp_path / "metrics.csv")


def test_text_in_a_table_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("stage,ms\nread,1\n")
    assert read_rows(tmp_path / "a.csv") == (["stage", "ms"], [{"stage": "read", "ms": "1"}])


def write_atomic(path: Path) -> None:
    atomic_write(path, bytes(1 << 20))


def write_open(path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(bytes(1 << 20))


def write_tensors(path: Path) -> None:
    save_tensors({"a": torch.zeros(1 << 20)}, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("write", [write_atomic, write_open, write_tensors])
def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a tmpfs")
    try:
        with pytest.raises(OSError, match="No space left") as raised:
            write(disk / "a.bin")
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(disk / "a.bin"))
        assert list(disk.iterdir()) == []
        with pytest.raises(SystemExit, match="2"):
            run_main(lambda: write(disk / "a.bin"))
        assert capsys.readouterr().err.startswith(f"error: {disk / 'a.bin'} cannot be written: No space left on device; free space")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_errors_of_what_is_read_meanwhile_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    assert raised.value.filename == str(tmp_path / "missing")
    with pytest.raises(ConnectionError, match=r"^gone$"), atomic_path(tmp_path / "a"):
        raise ConnectionError("gone")


def test_only_unfinished_files_are_removed(tmp_path: Path) -> None:
    kept = [".hidden", "a.part", ".a.part", ".a.1.part", "report.html"]
    for name in [*kept, ".a.ckpt.123.0123abcd.part", ".b.1.ffffffff.part"]:
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_sigterm_removes_what_is_unfinished(tmp_path: Path) -> None:
    code = f"""
import os, signal, tempfile
from pathlib import Path
from hear_ssl.errors import run_main
from hear_ssl.files import atomic_path
def main():
    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}), atomic_path(Path({str(tmp_path)!r}) / "a") as part:
        part.touch()
        os.kill(os.getpid(), signal.SIGTERM)
run_main(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (143, "terminated\n")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_with_a_comment_gets_no_checksum(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"of another"
    (tmp_path / "a").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="not a zip archive without a comment"):
        add_checksum(tmp_path / "a")
