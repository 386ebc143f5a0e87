"""Folders and archives as they are: links, files of operating systems, archives of other kinds; nothing is passed over without a word."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.folders import walk
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.shards.shard_index import read_index
from tests.conftest import ROOT
from tests.data.sounds import encoded, tone, write


def names(folder: Path) -> list[str]:
    return [item.name for item in list_items([str(folder)], "MIT", "train")]


def rows(out: Path) -> dict[str, str]:
    with open(out / "rejected.csv", newline="") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def script(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hear_ssl.data.pack", *map(str, arguments), "--workers", "1", "--license", "MIT"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def test_links_to_folders_are_followed_each_real_folder_once(tmp_path: Path) -> None:
    write(tmp_path / "in" / "own" / "x.wav", tone(1.0))
    write(tmp_path / "nas" / "deep" / "y.wav", tone(1.0, 500.0))
    links = {"a": tmp_path / "in" / "own", "nas": tmp_path / "nas", "twice": tmp_path / "nas" / "deep", "own/loop": tmp_path / "in"}
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    (tmp_path / "nas" / "back").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["nas/deep/y.wav", "own/x.wav"]  # a file keeps the name that it has without links
    (tmp_path / "in" / "self").symlink_to("self")
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "nowhere")
    pack(list_items([str(tmp_path / "in")], "MIT", "train"), tmp_path / "out", PackOptions())
    assert rows(tmp_path / "out") == dict.fromkeys(("self", "gone"), "unreadable: a link that leads nowhere")
    assert read_index(tmp_path / "out").clips == 2


def test_a_folder_of_links_alone_is_not_empty(tmp_path: Path) -> None:
    write(tmp_path / "nas" / "y.wav", tone(1.0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nas").symlink_to(tmp_path / "nas")
    assert names(tmp_path / "in") == ["nas/y.wav"]


def test_a_folder_that_cannot_be_entered_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "a.wav", tone(1.0))
    write(tmp_path / "in" / "closed" / "b.wav", tone(1.0))
    enter = os.scandir
    if os.geteuid() == 0:  # whom no mode keeps out

        def refuse(path: Path) -> object:
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return enter(path)

        monkeypatch.setattr(os, "scandir", refuse)
    (tmp_path / "in" / "closed").chmod(0)
    try:
        pack(list_items([str(tmp_path / "in")], "MIT", "train"), tmp_path / "out", PackOptions())
    finally:
        (tmp_path / "in" / "closed").chmod(0o700)
    assert rows(tmp_path / "out") == {"closed": "unreadable: the folder cannot be entered (Permission denied)"}
    assert read_index(tmp_path / "out").rejected == {"unreadable": 1}


@pytest.mark.slow
@pytest.mark.parametrize("out", ["shards", "deep/shards", "."])
def test_output_is_never_input(tmp_path: Path, out: str) -> None:
    write(tmp_path / "a.wav", tone(1.0))
    write(tmp_path / "deep" / "b.wav", tone(1.0, 500.0))
    for _ in range(3):  # the second finds what the first wrote, and the third what both did
        result = script(".", "--out", out, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "packed 2 clips" in result.stdout
        assert "rejected: none" in result.stdout
    (tmp_path / out / "index.json").unlink()
    (tmp_path / out / ".pack.log").unlink()
    assert "exists: give another folder" in script(".", "--out", out, cwd=tmp_path).stderr


@pytest.mark.slow
def test_files_of_unknown_kinds_are_listed_by_suffix_and_archives_one_by_one(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.wav", tone(1.0))
    for number, suffix in enumerate((".wav", ".aifc", "")):  # sound is known by its first bytes where the suffix does not say
        (tmp_path / "in" / f"b{suffix}").write_bytes(encoded(tone(1.0, 500.0 + 50 * number), format="AIFF" if suffix == ".aifc" else "WAV"))
    for name in ("a.7z", "b.tar.zst", "c.rar", "d.parquet", "e.z01", "f.7z.001", "g.wav.gz"):
        (tmp_path / "in" / name).write_bytes(b"7z\xbc\xaf\x27\x1c")
    for name in ("1.wv1", "2.wv1", "3.WV1", "none", "4.xyz", "x.txt", "y.TXT", "README", "z.json"):
        (tmp_path / "in" / name).write_bytes(bytes(100))
    result = script(tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "packed 4 clips" in result.stdout
    assert "rejected: archive not read 6, archive within an input 1, unknown kind of file 3" in result.stdout
    assert "not packed: 1 .json, 2 .txt, 1 without suffix\n" in result.stderr
    found = rows(tmp_path / "out")
    assert {name: reason for name, reason in found.items() if reason[0] == "u"} == {
        "1.wv1": "unknown kind of file: 3 .wv1, this is the first",
        "4.xyz": "unknown kind of file: 1 .xyz, this is the first",
        "none": "unknown kind of file: 1 without suffix, this is the first",
    }
    assert found["b.tar.zst"] == "archive not read: .tar.zst; unpack it and pack its files"
    assert {name for name, reason in found.items() if reason[0] == "a"} == {
        *("a.7z", "b.tar.zst", "c.rar", "d.parquet", "e.z01", "f.7z.001", "g.wav.gz")
    }


LEFT = (
    "._x.wav",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX/._y.wav",
    "$RECYCLE.BIN/z.wav",
    "deep/._z.flac",
    "@eaDir/x.wav/SYNO.mp3",
)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_operating_systems_leave_behind_is_counted_not_called_unreadable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("in" if kind == "folder" else "in.zip")
    files = {"x.wav": encoded(tone(1.0)), **dict.fromkeys(LEFT, b"\0\5\x16\7" + bytes(100))}
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    left: Counter[str] = Counter()
    items = list_items([str(path)], "MIT", "train", left=left)
    assert [item.name for item in items] == ["x.wav"]
    assert left == {"files that operating systems leave behind": len(LEFT)}


def test_a_file_of_zero_bytes_is_listed_in_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").touch()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b.mp3", b"")
    with pytest.raises(ValueError, match="none of the files can be used"):
        pack(list_items([str(tmp_path / "in"), str(tmp_path / "b.zip")], "MIT", "train"), tmp_path / "out", PackOptions())
    assert rows(tmp_path / "out") == dict.fromkeys(("a.wav", "b.mp3"), "unreadable: holds 0 bytes")


def split_zip(folder: Path) -> Path:
    """Write the last part of a split archive: the end of the directory counts disks from 0."""
    with zipfile.ZipFile(folder / "F.zip", "w") as archive:
        archive.writestr("a.wav", encoded(tone(1.0)))
    content = (folder / "F.zip").read_bytes()
    place = content.rindex(b"PK\5\6")
    (folder / "F.zip").write_bytes(content[: place + 4] + b"\3\0\3\0" + content[place + 8 :])
    return folder / "F.zip"


def test_a_part_of_a_split_archive_is_named_with_the_command_that_joins_it(tmp_path: Path) -> None:
    path = split_zip(tmp_path)
    line = r"F.zip is one part of a split archive; join the parts: zip -s 0 F.zip --out WHOLE.zip"
    with pytest.raises(ValueError, match=line):
        list_items([str(path)], "MIT", "train")
    with zipfile.ZipFile(tmp_path / "G.zip", "w") as archive:
        archive.writestr("a.wav", encoded(tone(1.0)))
    assert names(tmp_path / "G.zip") == ["a.wav"]
    (tmp_path / "G.z01").touch()
    with pytest.raises(ValueError, match=r"G.zip is one part of a split archive"):
        list_items([str(tmp_path / "G.zip")], "MIT", "train")


@pytest.mark.parametrize("name", ["a.7z", "b.tar.zst", "c.rar", "F.z01"])
def test_an_archive_that_is_not_read_is_named_when_it_is_the_input(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(ValueError, match=rf"{name} is an archive of a kind that is not read .*; unpack it and give the folder"):
        list_items([str(tmp_path / name)], "MIT", "train")


def test_the_walk_does_not_depend_on_the_order_of_the_disk(tmp_path: Path) -> None:
    for name in ("b/1.wav", "a/2.wav", "a/c/3.wav", "4.wav"):
        write(tmp_path / name, tone(0.1))
    assert [found.name for found in walk(tmp_path, None, Counter())] == ["4.wav", "a/2.wav", "b/1.wav", "a/c/3.wav"]
