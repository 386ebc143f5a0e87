"""Packing: every kind of file in, the same shards out, and nothing dropped without a reason."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hear_ssl.data.index import read_index
from hear_ssl.data.pack import pack
from hear_ssl.data.pack_clips import PackOptions
from hear_ssl.data.pack_inputs import list_items
from hear_ssl.data.shards import ShardSet
from tests.conftest import ROOT
from tests.data.sounds import encoded, tone, write

OPTIONS = PackOptions(16000, "flac", 0.1, 30.0)


def packed(inputs: list[Path], out: Path, license: str = "CC0-1.0", **options: Any) -> ShardSet:
    pack(list_items([str(path) for path in inputs], license, "train"), out, OPTIONS, **options)
    return ShardSet([str(out)])


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hear_ssl.data.pack", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def audio(shards: ShardSet, number: int = 0) -> tuple[Any, int]:
    return soundfile.read(io.BytesIO(shards.audio(shards.clips[number])))


def reasons(out: Path) -> dict[str, str]:
    with open(out / "rejected.csv", newline="") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tar", ".json", ".csv") and path.name[0] != "."}


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("stereo.wav", 16000, 2, "PCM_16"),
        ("8k.wav", 8000, 1, "PCM_16"),
        ("24bit.wav", 44100, 2, "PCM_24"),
        ("float.wav", 48000, 1, "FLOAT"),
        ("a.flac", 22050, 1, None),
        ("a.ogg", 44100, 2, None),
        ("a.mp3", 44100, 2, None),
        ("a.aiff", 32000, 1, None),
    ],
)
def test_any_kind_of_file_becomes_mono_at_the_wanted_rate(tmp_path: Path, name: str, rate: int, channels: int, subtype: str | None) -> None:
    waveform = np.stack([tone(2.0, 500.0, rate)] * channels, 1)
    shards = packed([write(tmp_path / "in" / name, waveform, rate, subtype)], tmp_path / "out")
    found, found_rate = audio(shards)
    assert (found.ndim, found_rate) == (1, 16000)
    assert len(found) / 16000 == pytest.approx(2.0, abs=0.06)
    middle = np.abs(np.fft.rfft(found[8000:16000]))
    assert middle.argmax() * 2 == 500  # 0.5 s: bins of 2 Hz
    assert np.abs(found[8000:16000]).max() == pytest.approx(0.5, abs=0.02)
    record = shards.record(shards.clips[0])
    assert (record["original_sample_rate"], record["original_channels"], record["license"]) == (rate, channels, "CC0-1.0")
    assert "." not in shards.clips[0].key


def test_a_long_recording_is_cut_and_every_piece_knows_its_offset(tmp_path: Path) -> None:
    shards = packed([write(tmp_path / "in" / "long.wav", tone(70.0, 300.0) + 0.2 * tone(70.0, 0.01))], tmp_path / "out")
    records = [shards.record(clip) for clip in shards.clips]
    assert [record["offset_seconds"] for record in records] == pytest.approx([0.0, 70 / 3, 140 / 3], abs=1e-4)  # equal pieces
    assert [record["seconds"] for record in records] == pytest.approx([70 / 3] * 3, abs=1e-4)
    assert read_index(tmp_path / "out").hours == pytest.approx(70 / 3600, abs=1e-5)


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "good.wav", tone(1.0))
    write(folder / "silent.wav", np.zeros(16000, np.float32))
    write(folder / "short.wav", tone(0.05))
    write(folder / "infinite.wav", np.full(16000, np.inf, np.float32), subtype="FLOAT")
    write(folder / "no_samples.wav", np.zeros(0, np.float32))
    (folder / "zero.wav").write_bytes(b"")
    (folder / "corrupt.flac").write_bytes(encoded(tone(1.0), format="FLAC")[:20] + b"\0" * 500)
    write(folder / "twin.flac", soundfile.read(folder / "good.wav")[0], subtype="PCM_16")
    result = script(str(folder), "--out", str(tmp_path / "out"), "--workers", "1", "--license", "CC0-1.0")
    assert result.returncode == 0, result.stderr
    found = reasons(tmp_path / "out")
    twin = {"good.wav", "twin.flac"} & set(found)
    assert len(twin) == 1
    assert found.pop(twin.pop()) == "duplicate"
    assert {name: reason.partition(":")[0] for name, reason in found.items()} == {
        "silent.wav": "silent",
        "short.wav": "too short",
        "infinite.wav": "non-finite",
        "no_samples.wav": "empty",
        "zero.wav": "unreadable",
        "corrupt.flac": "unreadable",
    }
    assert "packed 1 clips" in result.stdout
    assert "duplicate 1, empty 1, non-finite 1, silent 1, too short 1, unreadable 2" in result.stdout


def test_archives_and_lists_are_read_with_licence_and_source(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/one.wav", encoded(tone(1.0, 300.0)))
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        data = encoded(tone(1.0, 400.0), format="FLAC")
        member = tarfile.TarInfo("two.flac")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    write(tmp_path / "three.wav", tone(1.0, 500.0))
    write(tmp_path / "four.wav", tone(1.0, 600.0))
    (tmp_path / "list.csv").write_text("path,license,source\nthree.wav,CC-BY-4.0,field\n")
    (tmp_path / "list.jsonl").write_text(json.dumps({"path": str(tmp_path / "four.wav"), "source": "studio"}) + "\n")
    packed([tmp_path / name for name in ("a.zip", "b.tar.gz", "list.csv", "list.jsonl")], tmp_path / "out")
    sources = {source.name: source.license for source in read_index(tmp_path / "out").sources}
    assert sources["field"] == "CC-BY-4.0"
    assert sources["studio"] == "CC0-1.0"
    assert len(sources) == 4


def test_members_that_lead_out_of_an_archive_are_refused_or_left_out(tmp_path: Path) -> None:
    good = encoded(tone(1.0))
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for name in ("../outside.wav", "/absolute.wav", "fine.wav"):
            member = tarfile.TarInfo(name)
            member.size = len(good)
            tar.addfile(member, io.BytesIO(good))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    shards = packed([tmp_path / "evil.tar"], tmp_path / "out")
    assert len(shards.clips) == 1
    assert not (tmp_path / "outside.wav").exists()
    assert not (tmp_path.parent / "outside.wav").exists()


def many(folder: Path, count: int = 40) -> Path:
    for number in range(count):
        write(folder / f"{number:03d}.wav", tone(0.5, 200.0 + 10 * number))
    return folder


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 20)
    for workers in (1, 2):
        packed([folder], tmp_path / str(workers), clips_per_shard=8, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(list((tmp_path / "1").glob("*.tar"))) == 3


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 300)
    packed([folder], tmp_path / "whole", clips_per_shard=20)
    command = [sys.executable, "-m", "hear_ssl.data.pack", str(folder), "--license", "CC0-1.0"]
    command += ["--out", str(tmp_path / "killed"), "--clips-per-shard", "20", "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "killed").glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "index.json").exists()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda folder: folder / "missing", "missing"),
        (lambda folder: folder, "audio"),
        (lambda folder: write(folder / "silent.wav", np.zeros(16000, np.float32)), "none of the files can be used"),
    ],
)
def test_nothing_to_pack_is_one_line(tmp_path: Path, make: Any, line: str) -> None:
    result = script(str(make(tmp_path)), "--out", str(tmp_path / "out"), "--workers", "1")
    assert result.returncode == 2
    errors = [text for text in result.stderr.splitlines() if text and not text.startswith("packing")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert line in errors[0]
    assert not (tmp_path / "out" / "index.json").exists()


def test_data_marked_as_test_is_refused_by_the_hear_rule(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(1.0))
    result = script(str(tmp_path / "a.wav"), "--out", str(tmp_path / "out"), "--split", "test")
    assert result.returncode == 2
    assert "marked as test may not be used for training" in result.stderr
    assert not (tmp_path / "out").exists()


def test_another_packing_is_never_overwritten(tmp_path: Path) -> None:
    packed([write(tmp_path / "a.wav", tone(1.0))], tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="was packed from other files"):
        packed([write(tmp_path / "b.wav", tone(1.0, 900.0))], tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_keeps_the_whole_shards_and_no_other(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(60):
        write(tmp_path / "in" / f"{number}.wav", generator.uniform(-0.5, 0.5, 16000).astype(np.float32))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a tmpfs")
    try:
        arguments = [str(tmp_path / "in"), "--out", str(disk / "out"), "--clips-per-shard", "10", "--workers", "1"]
        result = script(*arguments)
        assert result.returncode == 2
        assert "No space left" in result.stderr
        tars = sorted((disk / "out").glob("*.tar"))
        assert tars
        for path in tars:
            with tarfile.open(path) as tar:
                assert len(tar.getmembers()) == 20
        assert not (disk / "out" / "index.json").exists()
        assert [path.name for path in (disk / "out").iterdir() if path.suffix != ".tar"] == [".pack.json"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
