"""Every command reads a file to its real end, whatever its header states, and names what is missing from it."""

from __future__ import annotations

import csv
import io
import mmap
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex
from hear_ssl.data.stream.stated_length import flac_frames
from hear_ssl.evaluation.tasks.task_format import read_clip
from tests.data.hard_files import FRAMES, RATE, HardFile, hard_files, mpeg, put, sound, twice
from tests.data.reading import decode_crops
from tests.data.sounds import encoded, of_length, tone

FILES = hard_files()
EXACT = ("wav", "aiff", "au", "caf", "w64", "rf64", "flac")
embed = import_module("hear_ssl.model.__main__")


def written(folder: Path, file: HardFile) -> Path:
    path = folder / "in" / f"a.{file.suffix}"
    path.parent.mkdir()
    path.write_bytes(file.content)
    return path


def compare(found: Any, file: HardFile) -> None:
    """Compare samples with those that lie in a file; those of a lossy codec by their number alone."""
    assert len(found) == file.frames
    if file.suffix in EXACT:
        assert np.abs(found - twice()[: file.frames]).max() < file.tolerance


@pytest.mark.parametrize("name", FILES)
def test_pack_keeps_every_sample_and_lists_what_is_missing(tmp_path: Path, name: str) -> None:
    file = FILES[name]
    path = written(tmp_path, file)
    index = pack(list_items([str(path)], "MIT", "train"), tmp_path / "out", PackOptions(max_seconds=1.0, codec="wav"))
    shards = ShardSet([str(tmp_path / "out")])
    pieces = sorted((shards.record(clip)["offset_seconds"], soundfile.read(io.BytesIO(shards.audio(clip)))[0]) for clip in shards.clips)
    compare(np.concatenate([piece for _, piece in pieces]), file)
    lengths = [len(piece) for _, piece in pieces]
    assert max(lengths) <= RATE
    assert [offset for offset, _ in pieces] == pytest.approx(np.cumsum([0, *lengths[:-1]]) / RATE, abs=2e-4)
    with open(tmp_path / "out" / "rejected.csv", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["path"] for row in rows] == [str(path)] * file.loss
    assert index.rejected == ({"unreadable": 1} if file.loss else {})
    assert all(float(row["offset_seconds"]) == pytest.approx(sum(lengths) / RATE, abs=1e-4) for row in rows)


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.suffix in ("wav", "flac", "ogg", "mp3")])
def test_training_crops_reach_the_real_end(name: str) -> None:
    file = FILES[name]
    frames, last = file.frames, float(np.nextafter(1.0, 0.0))
    if file.loss:
        with pytest.raises(ValueError, match=r"^(ends after|does not decode after) \d+"):
            decode_crops(file.content, [last], FRAMES, RATE)
        return
    (whole,) = decode_crops(file.content, [0.0], frames, RATE)
    compare(whole, file)
    first, end = decode_crops(file.content, [0.0, last], 5000, RATE)
    assert np.abs(end - whole[-5000:]).max() < 1e-4
    assert np.abs(first - whole[:5000]).max() < 1e-4
    (padded,) = decode_crops(file.content, [0.0], frames + 77, RATE)
    assert np.array_equal(padded[:frames], whole)
    assert not padded[frames:].any()


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.suffix in ("wav", "flac", "ogg", "mp3")])
def test_reindex_counts_the_real_length(tmp_path: Path, name: str) -> None:
    file = FILES[name]
    (tmp_path / "theirs").mkdir()
    with tarfile.open(tmp_path / "theirs" / "a-000.tar", "w") as tar:
        for member, content in ((f"x.{file.suffix}", file.content), ("x.json", b"{}")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

    def index() -> ShardIndex:
        return reindex(tmp_path / "theirs", "MIT")

    if file.loss:
        with pytest.raises(ValueError, match=r"a-000.tar: clip x does not decode"):
            index()
    else:
        assert index().shards[0].seconds == pytest.approx(file.frames / RATE, abs=1e-3)


@pytest.mark.parametrize("name", FILES)
def test_tasks_are_read_to_the_end_or_named(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, FILES[name])
    if FILES[name].loss:
        with pytest.raises(ValueError, match=rf"^{path} cannot be read: (ends after|does not decode after) \d+.*; unpack the task again$"):
            read_clip(path, RATE)
    else:
        compare(read_clip(path, RATE), FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_embed_reads_what_was_decoded_and_names_what_is_missing(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, FILES[name])
    compare(embed.read_audio(str(path), RATE), FILES[name])
    shown = capsys.readouterr().err
    assert (str(path) in shown, shown.count("\n")) == (FILES[name].loss, int(FILES[name].loss))


def test_what_is_left_of_an_ogg_file_without_its_last_page_is_read_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = encoded(sound(5 * RATE), RATE, "OGG", "VORBIS")
    path = written(tmp_path, HardFile("ogg", whole[: whole.rindex(b"OggS") + 40]))
    samples = embed.read_audio(str(path), RATE)
    assert RATE < len(samples) < 5 * RATE
    line = f"ends after {len(samples)} of an unknown number of samples"
    assert capsys.readouterr().err == f"{path} {line}\n"
    index = pack(list_items([str(path)], "MIT", "train"), tmp_path / "out", PackOptions())
    assert (index.shards[0].seconds, index.rejected) == (round(len(samples) / RATE, 3), {"unreadable": 1})
    assert line in (tmp_path / "out" / "rejected.csv").read_text()
    (crop,) = decode_crops(path.read_bytes(), [0.0], len(samples), RATE)
    assert np.abs(crop - samples).max() < 1e-4
    with pytest.raises(ValueError, match=line):
        read_clip(path, RATE)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_what_memory_held_before_never_reaches_the_model(tmp_path: Path, mode: str) -> None:
    """The allocator hands out memory that was full of NaN; a buffer read as far as the header states would show them."""
    (tmp_path / "a.mp3").write_bytes(FILES[f"mp3 without xing, {mode}"].content)
    for poison in (0.0, np.nan):
        for _ in range(20):
            np.full((1 << 14, 2), poison, np.float32)
        assert len(embed.read_audio(str(tmp_path / "a.mp3"), RATE)) == 86 * 576


def test_an_mp3_that_states_its_length_keeps_no_padding_of_its_encoder(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(mpeg("VARIABLE"))
    assert len(embed.read_audio(str(tmp_path / "a.mp3"), RATE)) == FRAMES


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 17, 4095, 4096, 4097, 50000])
def test_the_last_frame_of_a_flac_file_states_its_length(frames: int, channels: int) -> None:
    for rate, subtype in ((8000, "PCM_16"), (44100, "PCM_24"), (96000, "PCM_16")):
        content = encoded(sound(frames, channels), rate, "FLAC", subtype)
        assert flac_frames(content) == flac_frames(of_length(content, 3)) == frames
    assert flac_frames(content[:40]) == 0


@pytest.mark.parametrize("stated", [2**30, 0xFFFFFFFF, 0])
def test_a_wav_above_4_gb_has_no_size_that_its_header_can_state(tmp_path: Path, stated: int) -> None:
    """Recorders count on from 0; the file is sparse and takes no space on the disk."""
    size, header = 5 * 2**30, encoded(np.zeros(0, np.float32), RATE, "WAV", "PCM_16")
    with open(tmp_path / "a.wav", "wb") as file:
        file.write(put(header, len(header) - 4, "<I", stated))
        file.truncate(len(header) + size)
    with open(tmp_path / "a.wav", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        (stream,) = embed.streams(content)
        with stream.open() as opened:
            assert opened.frames == size // 2


@pytest.mark.parametrize("rate", [0, 1, 999, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_sample_rate_that_cannot_be_is_named(tmp_path: Path, rate: int) -> None:
    """At 1 Hz a second of sound would become hours."""
    content = put(encoded(tone(1.0)), 24, "<I", rate)
    path = written(tmp_path, HardFile("wav", content))
    with pytest.raises(ValueError, match="none of the files can be used"):
        pack(list_items([str(path)], "MIT", "train"), tmp_path / "out", PackOptions())
    assert ",unreadable: " in (tmp_path / "out" / "rejected.csv").read_text()
    with pytest.raises(ValueError, match=rf"^{path} cannot be read as audio \(") as caught:
        embed.read_audio(str(path), RATE)
    assert " at 0x" not in str(caught.value)
    with pytest.raises(ValueError, match=rf"^{path} (cannot be read|is {rate} Hz)"):
        read_clip(path, RATE)


GLITCH = np.where(np.arange(16000) == 8000, 30000.0, tone(1.0))


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (1e30 * tone(1.0), "implausible level: a peak of 5e+29"),
        (GLITCH, "implausible level: next to a peak of 3e+04 the rest is silence"),
        (np.full(16000, 0.5), "silent"),
        (np.zeros(16000), "silent"),
        (32767.0 * tone(1.0), ""),
    ],
)
def test_a_level_that_makes_a_clip_useless_is_named(tmp_path: Path, waveform: Any, reason: str) -> None:
    files = {"bad.wav": encoded(waveform, subtype="FLOAT"), "good.wav": encoded(tone(1.0, 300.0))}
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    index = pack(list_items([str(tmp_path / "in")], "MIT", "train"), tmp_path / "out", PackOptions())
    assert index.clips == (1 if reason else 2)
    rows = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    assert rows == ([f"{tmp_path}/in/bad.wav,in,0.0,{reason}"] if reason else [])
    if not reason:  # 16-bit values as floats are scaled to the full scale
        shards = ShardSet([str(tmp_path / "out")])
        peaks = [np.abs(soundfile.read(io.BytesIO(shards.audio(clip)))[0]).max() for clip in shards.clips]
        assert sorted(peaks) == pytest.approx([0.5, 0.999], abs=1e-3)
