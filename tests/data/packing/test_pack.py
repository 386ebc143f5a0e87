"""Packing: every kind of file in, the same shards out, and nothing dropped without a reason."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
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

from hear_ssl.data.pack import main
from hear_ssl.data.packing.archives import KEPT_OPEN, packing_order, read_item
from hear_ssl.data.packing.clips import PackOptions, pack_item
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.pack import one_split, pack
from hear_ssl.data.packing.shard_writer import write_shard
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index
from tests.conftest import ROOT
from tests.data.sounds import encoded, of_unknown_length, tone, write

KINDS: dict[str, tuple[int, int, str | None]] = {
    "stereo.wav": (16000, 2, "PCM_16"),
    "8k.wav": (8000, 1, "PCM_16"),
    "24bit.WAV": (44100, 2, "PCM_24"),
    "float.wav": (48000, 1, "FLOAT"),
    "a.flac": (22050, 1, None),
    "b.ogg": (44100, 2, None),
    "c.mp3": (44100, 2, None),
    "d.aiff": (32000, 1, None),
}


def packed(inputs: list[Path], out: Path, license: str = "CC0-1.0", codec: str = "flac", **options: Any) -> ShardSet:
    pack(list_items([str(path) for path in inputs], license, "train"), out, PackOptions(codec=codec), **options)
    return ShardSet([str(out)])


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hear_ssl.data.pack", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which the script ended at exit status 2; the progress bar has lines of its own."""
    assert (result.returncode, result.stdout) == (2, "")
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("packing")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def audio(shards: ShardSet, number: int = 0) -> Any:
    waveform, rate = soundfile.read(io.BytesIO(shards.audio(shards.clips[number])))
    assert (rate, waveform.ndim) == (16000, 1)
    return waveform


def reasons(out: Path) -> dict[str, str]:
    with open(out / "rejected.csv", newline="") as file:
        return {row["path"].partition("/in/")[2]: row["reason"] for row in csv.DictReader(file)}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tar_of(path: Path, *members: tuple[str, bytes | str], mode: str = "w") -> Path:
    """Write a tar of files (bytes), of links (the name they lead to) and of hard links (the name behind '=')."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.LNKTYPE if data[0] == "=" else tarfile.SYMTYPE, data.removeprefix("=")
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else None)
    return path


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Pack 2 s of every kind of file once; return audio, record and key by file name. Channels hold 500 Hz and 1100 Hz."""
    folder = tmp_path_factory.mktemp("kinds")
    for number, (name, (rate, channels, subtype)) in enumerate(KINDS.items()):
        tones = [(0.9 - 0.05 * number) * tone(2.0, frequency, rate) for frequency in (500.0, 1100.0)]
        write(folder / "in" / "deep" / name, np.stack(tones[:channels], 1), rate, subtype)
    (folder / "in" / "notes.txt").write_text("no audio")
    shards = packed([folder / "in"], folder / "out", workers=2)
    records = [shards.record(clip) for clip in shards.clips]
    return {Path(record["path"]).name: (audio(shards, n), record, shards.clips[n].key) for n, record in enumerate(records)}


@pytest.mark.parametrize("name", KINDS)
def test_any_kind_of_file_becomes_mono_at_16_khz_with_its_record(kinds: dict[str, Any], name: str) -> None:
    rate, channels, _ = KINDS[name]
    found, record, key = kinds[name]
    assert len(found) / 16000 == pytest.approx(2.0, abs=0.06 if name.endswith("mp3") else 1e-3)
    level = 0.5 * (0.9 - 0.05 * list(KINDS).index(name)) / channels  # mono is the mean of the channels
    amplitudes = np.abs(np.fft.rfft(found[8000:16000])) / 4000  # 0.5 s: bins of 2 Hz
    assert amplitudes[[250, 550]] == pytest.approx([level, level * (channels - 1)], abs=0.01)
    assert np.sort(amplitudes)[: -channels - 4].max() < 0.005
    expected = {"source": "in", "path": f"deep/{name}", "license": "CC0-1.0", "split": "train", "offset_seconds": 0.0}
    assert record == {**expected, "original_sample_rate": rate, "original_channels": channels, "seconds": round(len(found) / 16000, 6)}
    assert "." not in key
    assert len(kinds) == len(KINDS)


def test_a_recording_above_30_s_is_cut_into_equal_pieces_that_know_their_offset(tmp_path: Path) -> None:
    waveform = (np.random.default_rng(0).uniform(-0.5, 0.5, 70 * 16000) * 32768).round().astype(np.int16)
    write(tmp_path / "in" / "long.wav", waveform, subtype="PCM_16")
    write(tmp_path / "in" / "limit.wav", waveform[: 30 * 16000])
    write(tmp_path / "in" / "above.wav", waveform[: 30 * 16000 + 2][::-1])
    shards = packed([tmp_path / "in"], tmp_path / "out")
    pieces: dict[str, list[tuple[float, float, Any]]] = {}
    for number, clip in enumerate(shards.clips):
        record = shards.record(clip)
        pieces.setdefault(record["path"], []).append((record["offset_seconds"], record["seconds"], audio(shards, number)))
    assert [len(pieces[name]) for name in ("long.wav", "limit.wav", "above.wav")] == [3, 1, 2]
    assert [offset for offset, _, _ in pieces["long.wav"]] == pytest.approx([0.0, 70 / 3, 140 / 3], abs=1e-4)
    assert [seconds for _, seconds, _ in pieces["long.wav"]] == pytest.approx([70 / 3] * 3, abs=1e-4)
    whole = np.concatenate([samples for _, _, samples in pieces["long.wav"]])
    assert np.abs(whole * 32768 - waveform).max() <= 1  # lossless but for 32767 against 32768 as full scale
    assert read_index(tmp_path / "out").hours == pytest.approx(130 / 3600, abs=1e-5)


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "good.wav", tone(1.0))
    write(folder / "silent.wav", np.zeros(16000, np.float32))
    write(folder / "opposed.wav", np.stack([tone(1.0), -tone(1.0)], 1))
    write(folder / "short.wav", tone(0.05))
    write(folder / "infinite.wav", np.full(16000, np.inf, np.float32), subtype="FLOAT")
    write(folder / "nan.wav", np.where(np.arange(16000) == 9, np.nan, tone(1.0)), subtype="FLOAT")
    write(folder / "no_samples.wav", np.zeros(0, np.float32))
    (folder / "zero.wav").write_bytes(b"")
    (folder / "corrupt.flac").write_bytes(encoded(tone(1.0), format="FLAC")[:20] + b"\0" * 500)
    (folder / "piped.flac").write_bytes(of_unknown_length(encoded(tone(1.0, 222.0), format="FLAC")))
    (folder / "ends.flac").write_bytes(encoded(tone(5.0, 333.0), format="FLAC")[:9000])
    for name in ("phone.M4A", "old.wma", "more.zip", "notes.txt"):
        (folder / name).write_bytes(b"\0" * 100)
    (folder / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    write(folder / "twin.flac", soundfile.read(folder / "good.wav")[0], subtype="PCM_16")
    result = script(folder, "--out", tmp_path / "out", "--workers", "1")
    assert result.returncode == 0, result.stderr
    found = reasons(tmp_path / "out")
    (twin,) = {"good.wav", "twin.flac"} & set(found)
    assert found.pop(twin) == "duplicate"
    assert found["ends.flac"] == "unreadable: does not decode after 16384 samples"  # four frames of FLAC: these are packed
    assert {name: reason.partition(":")[0] for name, reason in found.items()} == {
        **{"silent.wav": "silent", "opposed.wav": "silent", "short.wav": "too short", "no_samples.wav": "empty"},
        **{"infinite.wav": "non-finite", "nan.wav": "non-finite"},
        **{"zero.wav": "unreadable", "corrupt.flac": "unreadable", "ends.flac": "unreadable", "link.wav": "unreadable"},
        **{"phone.M4A": "format not read", "old.wma": "format not read", "more.zip": "archive within an input"},
    }
    counts = "archive within an input 1, duplicate 1, empty 1, format not read 2, non-finite 2, silent 2, too short 1, unreadable 4"
    assert result.stdout.splitlines() == [
        f"packed 3 clips, 0.00 hours, 1 shard into {tmp_path / 'out'}; rejected: {counts} (listed in {tmp_path / 'out' / 'rejected.csv'})",
        "0.00 hours have no licence: export will ask for one; state it with --license or in a list",
    ]
    assert "not packed: 1 .txt\n" in result.stderr
    assert read_index(tmp_path / "out").rejected == {
        reason: int(count) for reason, count in (part.rsplit(" ", 1) for part in counts.split(", "))
    }


def test_archives_and_lists_are_read_with_licence_source_and_split(tmp_path: Path) -> None:
    sounds = [encoded(tone(0.5, 300.0 + 50 * number), format="FLAC") for number in range(9)]
    for number, compression in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / f"zip{number}.zip", "w", compression) as archive:
            archive.writestr("inner/one.flac", sounds[number])
    inputs = [tmp_path / "zip0.zip", tmp_path / "zip1.zip"]
    for number, suffix in enumerate(("", ".gz", ".bz2", ".xz"), start=2):
        inputs.append(tar_of(tmp_path / f"tar{number}.tar{suffix}", ("a/b.flac", sounds[number]), mode=f"w:{suffix[1:]}"))
    for number in (6, 7, 8):
        (tmp_path / f"{number}.flac").write_bytes(sounds[number])
    (tmp_path / "list.csv").write_text("\ufeffpath,licence,source,split,note\n6.flac,CC-BY-4.0,field,train,x\n7.flac,,,,\n")
    (tmp_path / "list.jsonl").write_text(f'\ufeff\n{{"path": "{tmp_path}/8.flac", "license": "MIT", "source": "studio", "split": null}}\n')
    shards = packed([*inputs, tmp_path / "list.csv", tmp_path / "list.jsonl"], tmp_path / "out")
    records = sorted((shards.record(clip) for clip in shards.clips), key=lambda record: str(record["source"]))
    found = [(record["source"], record["license"], record["split"]) for record in records]
    archives = ["tar2", "tar3", "tar4", "tar5", tmp_path.name, "zip0", "zip1"]
    assert found == sorted(
        [("field", "CC-BY-4.0", "train"), ("studio", "MIT", "train"), *((name, "CC0-1.0", "train") for name in archives)]
    )
    assert {shards.audio(clip)[:4] for clip in shards.clips} == {b"fLaC"}
    assert {(s.name, s.license, s.clips) for s in read_index(tmp_path / "out").sources} == {(*pair[:2], 1) for pair in found}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_is_opened_once_and_read_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    sounds = {f"{number:02d}.wav": bytes([number]) * 3000 for number in range(40)}
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, sound in sounds.items():
                archive.writestr(name, sound)
    else:
        tar_of(path, *sounds.items(), mode=f"w:{kind.partition('.')[2]}")
    (tmp_path / "b").mkdir()
    for number in range(40):
        (tmp_path / "b" / f"{number}.wav").touch()
    items = packing_order(list_items([str(path), str(tmp_path / "b")], "MIT", "train"))
    opened = []
    for module, name in ((tarfile, "open"), (zipfile, "ZipFile")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, real=real: opened.append(given) or real(*given))
    members = [item for item in items if item.archive]
    assert {item.name: read_item(item) for item in members} == sounds
    assert len(opened) == 1
    assert kind == "zip" or members == sorted(members, key=lambda item: item.offset)
    assert {bool(item.archive) for item in items[:12]} == {True, False}
    os.utime(path, ns=(1, 1))
    read_item(members[0])
    assert len(opened) == 2, "an archive that has changed is opened anew"


def test_the_order_of_packing_holds_every_file_once_and_few_packed_tars_at_a_time() -> None:
    plain = [Item(f"{number}.wav", "a", "a", "MIT", "train") for number in range(50)]
    packed = [Item(f"{tar}", "a", "a", "MIT", "train", "packed tar", place) for tar in range(2 * KEPT_OPEN) for place in (512, 2048)]
    order = packing_order(plain + packed)
    assert sorted(order, key=repr) == sorted(plain + packed, key=repr)
    members = [item for item in order if item.archive]
    assert len({item.path for item in members[: 2 * KEPT_OPEN]}) == KEPT_OPEN


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "file,license\na.wav,MIT\n", "line 2 has no path"),
        ("a.jsonl", '{"path": "a.wav"}\n\n{"path": ""}\n', "line 3 has no path"),
        ("a.jsonl", '{"path": 3}', "line 1: path is 3; give plain text"),
        ("a.jsonl", '{"path": "a.wav"}\n{"path": "a\\u0000.wav"}', r"line 2: path is 'a\\x00.wav'; give plain text"),
        ("a.csv", "path\na\0.wav\n", "line 2"),
        ("a.jsonl", '{"path": "a.wav", "source": "\\ud800"}', r"line 1: source is '\\ud800'"),
        ("a.jsonl", '{"path": "a.wav", "license": ["MIT", "CC0-1.0"]}', r"line 1: license is \['MIT', 'CC0-1.0'\]; give plain text"),
        ("a.jsonl", '{"path": "a.wav"}\n{', "line 2 is not readable"),
        ("a.jsonl", '{"path": "a.wav"}\n' + "[" * 100000, "line 2 is not readable"),
        ("a.csv", "path\n" + "a" * 200000, "line 2 is not readable"),
        ("a.csv", b"path\na.wav\n\xff.wav\n", "line 3 is not readable"),
        ("a.jsonl", "[1]", "line 1 is not a JSON object"),
        ("a.csv", "path,split\na.wav,test\n", "refused by the HEAR rule"),
        ("a.jsonl", '{"path": "a.wav", "split": "Evaluation "}', "refused by the HEAR rule"),
        ("a.csv", "path,split\na.wav,../../b\n", "line 2 names the split '../../b'; name a split by"),
        ("a.csv", "path\n", "no audio files in"),
        ("a.zip", "PK no zip", "is damaged"),
        ("a.tar", "no tar", "is damaged"),
        ("a.tar.gz", "no tar", "is damaged"),
    ],
)
def test_a_malformed_list_or_archive_is_named(tmp_path: Path, name: str, text: str | bytes, line: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=line) as caught:
        list_items([str(tmp_path / name)], "MIT", "train")
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_members_that_lead_out_of_an_archive_are_rejected_not_followed(tmp_path: Path, kind: str) -> None:
    secret = write(tmp_path / "secret.wav", tone(1.0, 999.0))
    good, path = encoded(tone(1.0, 440.0)), tmp_path / "in" / f"evil.{kind}"
    climbing = ["../climbs.wav", "/absolute.wav", "in/../../climbs.wav", "C:\\disk.wav", "..\\climbs.wav"]
    if kind == "zip":
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            for name in [*climbing, "fine.wav"]:
                archive.writestr(name, good)
            link = zipfile.ZipInfo("link.wav")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, str(secret))
        links = ["link.wav"]
    else:
        members: list[tuple[str, bytes | str]] = [("link.wav", str(secret)), ("up.wav", "../../secret.wav"), ("hard.wav", f"={secret}")]
        links = [name for name, _ in members]
        tar_of(path, *members, *((name, good) for name in [*climbing, "fine.wav"]), mode="w:gz" if kind == "tar.gz" else "w")
    before = set(tmp_path.rglob("*"))
    shards = packed([path], tmp_path / "out")
    assert [shards.record(clip)["path"] for clip in shards.clips] == ["fine.wav"]
    assert np.abs(np.fft.rfft(audio(shards))).argmax() == 440
    assert reasons(tmp_path / "out") == {f"evil.{kind}/{name}": "unsafe member name or link" for name in [*climbing, *links]}
    assert {file for file in tmp_path.rglob("*") if tmp_path / "out" not in (file, *file.parents)} == before


def test_a_member_that_unpacks_to_far_more_than_it_occupies_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.wav", encoded(np.zeros(16000 * 60, np.float32)))
        archive.writestr("a.m4a", b"")
    refused = [item.refused for item in list_items([str(tmp_path / "bomb.zip")], "MIT", "train")]
    assert refused == ["format not read: .m4a", "unpacks to far more than it occupies"]
    tar_of(tmp_path / "bomb.tar.gz", ("bomb.wav", bytes(2**20)), mode="w:gz")
    with pytest.raises(ValueError, match=r"bomb.tar.gz unpacks to far more than it occupies"):
        list_items([str(tmp_path / "bomb.tar.gz")], "MIT", "train")


@pytest.mark.parametrize(("codec", "start"), [("wav", b"RIFF"), ("ogg", b"OggS"), ("flac", b"fLaC")])
def test_the_codec_is_the_one_asked_for(tmp_path: Path, codec: str, start: bytes) -> None:
    shards = packed([write(tmp_path / "a.wav", 1.9 * tone(1.0), subtype="FLOAT")], tmp_path / "out", codec=codec)
    assert (shards.clips[0].codec, shards.audio(shards.clips[0])[:4], read_index(tmp_path / "out").codec) == (codec, start, codec)
    assert np.abs(audio(shards) - 1.9 * tone(1.0)).max() < (0.05 if codec == "ogg" else 1e-4)


def many(folder: Path, count: int) -> Path:
    for number in range(count):
        write(folder / f"{number:03d}.wav", tone(0.5, 200.0 + 10 * number) if number % 5 else np.zeros(8000, np.float32))
    return folder


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    folder = many(tmp_path / "in", 25)
    for workers in (1, 2):
        packed([folder], tmp_path / str(workers), clips_per_shard=8, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(list((tmp_path / "1").glob("*.tar"))) == 3


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes], list[int]]:
    """Kill a packing, then end it; return the folders whole, killed and ended, and what still ran 2 s after the kill."""
    folder = tmp_path_factory.mktemp("stopped")
    arguments = [many(folder / "in", 200), "--license", "CC0-1.0", "--clips-per-shard", "20", "--workers", "1", "--out"]
    assert script(*arguments, folder / "whole").returncode == 0
    command = [sys.executable, "-m", "hear_ssl.data.pack", *map(str, arguments), str(folder / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((folder / "out").glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.005)
    workers = children(process.pid)
    process.kill()
    process.wait()
    killed = content(folder / "out")
    deadline = time.monotonic() + 2.0
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [worker for worker in workers if is_running(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert script(*arguments, folder / "out").returncode == 0
    return content(folder / "whole"), killed, content(folder / "out"), left


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_with_the_same_bytes(stopped: tuple[Any, ...]) -> None:
    whole, killed, ended, _ = stopped
    assert "index.json" not in killed
    tars = {name for name in killed if name.endswith(".tar") and name[0] != "."}
    assert 0 < len(tars) < len([name for name in whole if name.endswith(".tar")])
    assert {name: killed[name] for name in tars} == {name: whole[name] for name in tars}  # what has its name is whole
    assert ended == whole


@pytest.mark.slow
def test_no_process_outlives_a_killed_packing(stopped: tuple[Any, ...]) -> None:
    assert stopped[3] == []


@pytest.mark.parametrize(("name", "line"), [("missing", "input .*missing does not exist"), ("in", "no audio files in .*/in; formats read")])
def test_nothing_to_pack_is_one_line(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "in").mkdir()
    result = script(tmp_path / name, "--out", tmp_path / "out")
    assert "packing" not in result.stderr
    assert re.search(line, error_line(result))
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_used_is_one_line_and_a_list_of_reasons(tmp_path: Path) -> None:
    write(tmp_path / "in" / "silent.wav", np.zeros(16000, np.float32))
    line = error_line(script(tmp_path / "in", "--out", tmp_path / "out", "--workers", "1"))
    assert "none of the files can be used" in line
    assert reasons(tmp_path / "out") == {"silent.wav": "silent"}
    assert not (tmp_path / "out" / "index.json").exists()


def test_data_marked_as_test_is_refused_by_the_hear_rule(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(1.0))
    (tmp_path / "list.csv").write_text("path,split\na.wav,dev-test\na.wav,Test\n")
    for arguments in ([tmp_path / "a.wav", "--split", "eval"], [tmp_path / "list.csv"]):
        line = error_line(script(*arguments, "--out", tmp_path / "out"))
        assert "refused by the HEAR rule 'Any existing data marked as test may not be used for training'" in line
    assert not (tmp_path / "out").exists()


def test_more_clips_than_files_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "short.wav", tone(1.0))
    write(folder / "long.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 56000))
    arguments = [str(folder), "--license", "MIT", "--workers", "1"]
    for limit, lines in (("30", []), ("2", ["2 files have 3 clips: recordings longer than 2 s are cut"])):
        assert main([*arguments, "--out", str(tmp_path / limit), "--max-seconds", limit]) == 0
        assert [line for line in capsys.readouterr().err.splitlines() if "clips: " in line] == lines


def test_two_splits_never_share_a_folder() -> None:
    items = [Item(f"{split}.wav", "a", "a", "MIT", split) for split in ("train", "valid")]
    with pytest.raises(ValueError, match=r"the files belong to the splits train, valid; pack each split into its own folder"):
        one_split(items)


@pytest.mark.parametrize("options", [("--workers", "0"), ("--max-seconds", "31"), ("--min-seconds", "nan"), ("--sample-rate", "3999")])
def test_an_option_out_of_range_is_named(tmp_path: Path, options: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path), "--out", str(tmp_path / "out"), *options])
    with pytest.raises(ValueError, match=rf"^{options[0]} is {options[1]}"):
        main()


def test_another_packing_is_never_overwritten(tmp_path: Path) -> None:
    packed([write(tmp_path / "a.wav", tone(1.0))], tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="was packed from other files"):
        packed([write(tmp_path / "b.wav", tone(1.0, 900.0))], tmp_path / "out")
    with pytest.raises(ValueError, match="or with other options"):
        packed([tmp_path / "a.wav"], tmp_path / "out", codec="wav")
    assert content(tmp_path / "out") == before
    (tmp_path / "out" / ".pack.log").unlink()
    with pytest.raises(FileExistsError, match=r"index.json exists: give another folder"):
        packed([tmp_path / "a.wav"], tmp_path / "out")
    (tmp_path / "out" / ".pack.log").write_text('{"fingerprint"')
    with pytest.raises(ValueError, match=r".pack.log is damaged; remove .* and pack again"):
        packed([tmp_path / "a.wav"], tmp_path / "out")


@pytest.mark.parametrize("name", ["train-000000.tar", "theirs.tar", "rejected.csv"])
def test_files_that_are_not_its_own_are_never_overwritten(tmp_path: Path, name: str) -> None:
    recordings = tar_of(tmp_path / "own" / name, ("a.wav", encoded(tone(1.0))))
    before = content(tmp_path / "own")
    inputs = [recordings] if name.endswith(".tar") else [write(tmp_path / "a.wav", tone(1.0))]
    with pytest.raises(FileExistsError, match=rf"{name} exists: give another folder"):
        packed(inputs, tmp_path / "own")
    assert content(tmp_path / "own") == before


def test_a_packing_stopped_before_its_first_shard_was_noted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))

    def stop(path: Path, clips: Any) -> None:
        write_shard(path, clips)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hear_ssl.data.packing.pack.write_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            packed([path], tmp_path / "out")
    assert len(packed([path], tmp_path / "out").clips) == 1


@pytest.mark.parametrize("damage_to", ["removed", "cut", "changed"])
def test_packing_again_mends_a_damaged_shard(tmp_path: Path, damage_to: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"inputs": [many(tmp_path / "in", 4)], "out": tmp_path / "out", "clips_per_shard": 1}
    packed(**options)
    whole = content(tmp_path / "out")
    path = tmp_path / "out" / "train-000001.tar"
    {"removed": path.unlink, "cut": lambda: os.truncate(path, 3000), "changed": lambda: damage(path)}[damage_to]()
    (tmp_path / "out" / ".train-000001.tar.1.0123abcd.part").write_bytes(b"half")
    packed(**options)
    assert content(tmp_path / "out") == whole
    assert "train-000001.tar is missing or not as it was packed: packing from the beginning" in capsys.readouterr().err


def test_recordings_that_have_changed_are_no_packing_to_go_on_with(tmp_path: Path) -> None:
    packed([write(tmp_path / "a.wav", tone(1.0))], tmp_path / "out")
    write(tmp_path / "a.wav", tone(2.0))
    with pytest.raises(ValueError, match="was packed from other files"):
        packed([tmp_path / "a.wav"], tmp_path / "out")


def test_a_packing_that_found_nothing_gives_way_to_another(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the files can be used"):
        packed([write(tmp_path / "silent.wav", np.zeros(16000, np.float32))], tmp_path / "out")
    assert len(packed([write(tmp_path / "a.wav", tone(1.0))], tmp_path / "out").clips) == 1


@pytest.mark.slow
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
        line = error_line(script(tmp_path / "in", "--out", disk / "out", "--clips-per-shard", "10", "--workers", "1"))
        assert "No space left" in line
        tars = sorted((disk / "out").glob("*.tar"))
        assert tars
        for path in tars:
            with tarfile.open(path) as tar:
                assert len(tar.getmembers()) == 20
        assert {path.name for path in (disk / "out").iterdir()} <= {
            ".pack.log",
            *(f"{path.stem}{end}" for path in tars for end in (".tar", ".clips")),
        }
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_finished_packing_run_again_stays_as_it_is(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path / "in" / f"{number}.wav", np.zeros(8000, np.float32) if number else tone(0.5))
    packed([tmp_path / "in"], tmp_path / "out", clips_per_shard=1)
    before = content(tmp_path / "out")
    packed([tmp_path / "in"], tmp_path / "out", clips_per_shard=1)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("kind", ["folders", "tar"])
def test_files_of_one_name_from_one_source_have_keys_of_their_own(tmp_path: Path, kind: str) -> None:
    sounds = [encoded(tone(0.5, frequency)) for frequency in (300.0, 500.0)]
    if kind == "tar":
        inputs = [tar_of(tmp_path / "a.tar", *(("x.wav", sound) for sound in sounds))]
    else:
        inputs = [tmp_path / "a" / "recordings", tmp_path / "b" / "recordings"]
        for folder, sound in zip(inputs, sounds, strict=True):
            folder.mkdir(parents=True)
            (folder / "x.wav").write_bytes(sound)
    assert len(packed(inputs, tmp_path / "out").clips) == 2


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_of_a_zip_is_rejected(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("a.wav", encoded(np.random.default_rng(0).uniform(-1, 1, 16000)))
    damage(tmp_path / "a.zip")
    (item,) = list_items([str(tmp_path / "a.zip")], "MIT", "train")
    assert [reason.partition(":")[0] for _, reason in pack_item(item, PackOptions()).rejected] == ["unreadable"]


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_a_damaged_packed_tar_is_named(tmp_path: Path, suffix: str) -> None:
    sounds = [encoded(np.random.default_rng(number).uniform(-1, 1, 16000)) for number in range(4)]
    path = tar_of(tmp_path / f"a.tar.{suffix}", *((f"{number}.wav", sound) for number, sound in enumerate(sounds)), mode=f"w:{suffix}")
    damage(path)
    with pytest.raises(ValueError, match=r"a.tar.* is damaged"):
        list_items([str(path)], "MIT", "train")


def test_a_tar_with_a_damaged_header_is_named(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", *((f"{number}.wav", encoded(tone(0.5))) for number in range(4)))
    with tarfile.open(path) as tar:
        place = tar.getmembers()[2].offset
    damage(path, place, 4)
    with pytest.raises(ValueError, match=r"a.tar is damaged"):
        list_items([str(path)], "MIT", "train")


def test_tabs_and_ends_of_lines_in_names_and_licences_are_written_out(tmp_path: Path) -> None:
    write(tmp_path / "a\tb\nc" / "d\te.wav", tone(1.0))
    shards = packed([tmp_path / "a\tb\nc"], tmp_path / "out", license="CC\t0")
    found = shards.record(shards.clips[0])
    assert (found["source"], found["path"]) == (r"a\tb\nc", r"d\te.wav")
    assert [(source.name, source.license) for source in read_index(tmp_path / "out").sources] == [(r"a\tb\nc", r"CC\t0")]


def test_a_file_name_that_is_not_utf_8_is_packed(tmp_path: Path) -> None:
    os.rename(write(tmp_path / "in" / "a.wav", tone(1.0)), os.fsencode(tmp_path / "in") + b"/\xff.wav")
    assert len(packed([tmp_path / "in"], tmp_path / "out").clips) == 1


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_samples_that_overflow_in_resampling_are_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.sign(tone(1.0, 300.0, 8000)) * 3.3e38, 8000, "FLOAT")
    (item,) = list_items([str(path)], "MIT", "train")
    assert all(np.isfinite(clip.record.get("gain", 1.0)) for clip in pack_item(item, PackOptions()).clips)


def test_the_reason_of_a_member_is_the_same_in_every_run(tmp_path: Path) -> None:
    (item,) = list_items([str(tar_of(tmp_path / "a.tar", ("a.wav", b"no sound")))], "MIT", "train")
    assert " at 0x" not in pack_item(item, PackOptions()).rejected[0][1]


@pytest.mark.slow
def test_long_clips_of_a_high_rate_can_be_vorbis(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.wav", tone(30.0, rate=96000), 96000)
    result = script(tmp_path / "in", "--out", tmp_path / "out", "--codec", "ogg", "--sample-rate", "96000", "--workers", "1")
    assert result.returncode == 0, result.stderr


def damage(path: Path, place: int | None = None, length: int = 60) -> None:
    """Flip the bits of some bytes, from the middle unless a place is given."""
    data = bytearray(path.read_bytes())
    start = len(data) // 2 if place is None else place
    data[start : start + length] = bytes(255 - byte for byte in data[start : start + length])
    path.write_bytes(data)
