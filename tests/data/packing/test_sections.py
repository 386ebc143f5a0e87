"""A long recording is cut as it is read: the same clips as from a short one, whatever was done before, in bounded memory."""

from __future__ import annotations

import io
import mmap
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing import file_streams, sections
from hear_ssl.data.packing.clips import PackOptions, outcomes, pack_item
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.pack import Packer, pack
from hear_ssl.data.packing.pack_log import entries
from hear_ssl.data.packing.sections import Sections
from hear_ssl.model.audio_file import streams
from tests.conftest import ROOT
from tests.data.packing.test_pack import content
from tests.data.sounds import encoded, of_length, of_unknown_length

RATE = 8000
OPTIONS = PackOptions(sample_rate=RATE, max_seconds=1.0)


def noise(seconds: float, seed: int = 0) -> Any:
    waveform = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    waveform[3 * RATE : 5 * RATE] = 0.0  # two silent pieces
    return waveform


def sound(kind: str) -> bytes:
    whole = encoded(noise(9.3), RATE, "FLAC")
    return {
        "flac": whole,
        "flac of unknown length": of_unknown_length(whole),
        "flac that states too much": of_length(whole, 20 * RATE),
        "flac that is cut off": whole[: len(whole) * 2 // 3],
        "two flacs": whole + encoded(noise(4.0, 1), RATE, "FLAC"),
        "mp3": encoded(noise(9.3), RATE, "MP3"),
        "ogg": encoded(noise(9.3), RATE, "OGG"),
        "wav": encoded(noise(9.3), RATE),
        "no sound": b"fLaC" + bytes(1000),
        "too short": encoded(noise(5.0)[:100], RATE, "FLAC"),
    }[kind]


KINDS = [
    *("flac", "flac of unknown length", "flac that states too much", "flac that is cut off", "two flacs", "mp3", "ogg", "wav"),
    *("no sound", "too short"),
]


def item(path: Path, kind: str) -> Item:
    path.write_bytes(sound(kind))
    return Item(str(path), path.name, "s", "CC0-1.0", "train")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole_seconds", [3600.0, 2.5])
def test_the_outcomes_from_any_one_on_are_those_of_the_whole(
    tmp_path: Path, kind: str, whole_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = item(tmp_path / "a", kind)
    whole = pack_item(one, OPTIONS)
    assert not whole.more
    assert whole.outcomes
    monkeypatch.setattr("hear_ssl.data.packing.clips.WHOLE_SECONDS", whole_seconds)
    for first in range(len(whole.outcomes) + 1):
        rest = [outcome for outcome in outcomes(one, OPTIONS, first) if outcome is not None]
        assert rest == whole.outcomes[first:]


@pytest.mark.parametrize("kind", KINDS[:8])
def test_a_long_file_comes_in_sections(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = item(tmp_path / "a", kind)
    whole = pack_item(one, OPTIONS).outcomes
    monkeypatch.setattr("hear_ssl.data.packing.clips.WHOLE_SECONDS", 2.5)
    first = pack_item(one, OPTIONS)
    assert first.more
    assert first.outcomes == whole[: len(first.outcomes)]
    assert sum(clip.record["seconds"] for clip in first.clips) <= 2.5
    monkeypatch.setattr(sections, "SECTION_PIECES", 2)
    rest = Sections(one, OPTIONS, len(first.outcomes))
    found, more = list(first.outcomes), True
    while more:
        section = rest.take()
        assert len(section.outcomes) <= 2
        found, more = found + section.outcomes, section.more
    assert found == whole


def test_shards_are_full_whatever_files_their_clips_come_from(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.flac").write_bytes(encoded(noise(9.3, number), RATE, "FLAC"))
    index = pack(list_items([str(tmp_path)], "CC0-1.0", "train"), tmp_path / "out", OPTIONS, clips_per_shard=4)
    assert [shard.clips for shard in index.shards] == [4] * (index.clips // 4) + [index.clips % 4] * (index.clips % 4 > 0)
    assert index.clips == 27
    assert {entry.inside > 0 for entry in entries(tmp_path / "out")} == {True, False}


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_stop_resumes_inside_a_file(tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.flac").write_bytes(encoded(noise(9.3, number), RATE, "FLAC"))
    items = list_items([str(tmp_path / "in")], "CC0-1.0", "train")
    pack(items, tmp_path / "whole", OPTIONS, clips_per_shard=3)

    def stop(packer: Packer, *arguments: Any) -> None:
        save(packer, *arguments)
        if len(packer.state.shards) == shards:
            raise KeyboardInterrupt

    save = Packer.save_record
    with monkeypatch.context() as patch:
        patch.setattr(Packer, "save_record", stop)
        with pytest.raises(KeyboardInterrupt):
            pack(items, tmp_path / "out", OPTIONS, clips_per_shard=3)
    assert len(list((tmp_path / "out").glob("*.tar"))) == shards
    pack(items, tmp_path / "out", OPTIONS, clips_per_shard=3)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_mapped_flac_is_searched_window_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [encoded(noise(6.0 + 0.1 * number, number), RATE, "FLAC") for number in range(4)]
    path = tmp_path / "a.flac"
    path.write_bytes(b"".join(parts))
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    expected = [(stream.shift, stream.bytes, stream.frames) for stream in streams(path.read_bytes())]
    assert len(expected) == 4
    for window in (len(parts[0]) + 3, len(parts[0]), 1000, 7):  # a beginning that lies across two windows too
        monkeypatch.setattr(file_streams, "WINDOW", window)
        assert [(stream.shift, stream.bytes, stream.frames) for stream in file_streams.file_streams(mapped)] == expected
    blocks = [block for stream in file_streams.file_streams(mapped) for block in file_streams.blocks(stream)]
    plain = [soundfile.read(io.BytesIO(part), dtype="float32", always_2d=True)[0] for part in parts]
    assert np.array_equal(np.concatenate(blocks), np.concatenate(plain))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_packing_resumes_inside_a_recording_of_hours(tmp_path: Path, how: signal.Signals) -> None:
    with soundfile.SoundFile(tmp_path / "a.flac", "w", RATE, 1, "PCM_16") as file:
        for number in range(130):
            file.write(noise(60.0, number))
    command = [sys.executable, "-m", "hear_ssl.data.pack", str(tmp_path / "a.flac"), "--out", str(tmp_path / "out")]
    command += ["--sample-rate", str(RATE), "--workers", "1", "--clips-per-shard", "20"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list((tmp_path / "out").glob("*.tar"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=60)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert 3 <= len(before) <= 12
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    noted = sum(len(entry.shards) for entry in entries(tmp_path / "out"))
    assert noted == 13
    kept = sum(before[name] == (tmp_path / "out" / name).stat().st_mtime_ns for name in before)
    assert kept >= 2  # the last may have been written, but not yet noted
    subprocess.run([*command[:5], str(tmp_path / "whole"), *command[6:]], cwd=ROOT, check=True, capture_output=True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
