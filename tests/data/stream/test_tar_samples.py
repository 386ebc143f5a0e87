"""Samples of shards without an index: every layout that is common, and all that can be wrong with a shard is named."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import webdataset
from webdataset.tariterators import tar_file_iterator

from hear_ssl.data.stream.tar_samples import WHOLE_SHARD, PlainTarInfo, Sample, read_samples
from tests.data.plain_shards import flac, plain_folder, write_tar


def samples(path: Path | str, audio: str = "") -> list[Sample]:
    return list(read_samples(str(path), audio))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return plain_folder(tmp_path / "whole", [6]) / "a-000.tar"


def test_members_are_those_that_webdataset_groups(whole: Path) -> None:
    expected = [(sample["__key__"], sample["flac"]) for sample in webdataset.WebDataset(str(whole), shardshuffle=False)]
    assert [(sample.key, sample.audio) for sample in samples(whole)] == expected
    assert len(expected) == 6


@pytest.mark.parametrize("name", ["a.flac", "a.audio.wav", "a.flac.flac", "deep/er/a.FLAC", "./a.mp3", "a.opus", "a.ogg"])
def test_one_audio_member_of_any_name_is_found(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.cls" if "/" not in name else f"{name.rpartition('/')[0]}/a.cls", b"1"), (name, flac(0))])
    (sample,) = samples(path)
    assert (sample.audio, sample.reason) == (flac(0), "")


def test_several_audio_members_are_chosen_by_their_suffix(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.mic1.flac", flac(1)), ("a.mic2.flac", flac(2)), ("a.json", b"{}")])
    (sample,) = samples(path)
    assert sample.audio == b""
    assert "2 audio members (mic1.flac, mic2.flac)" in sample.reason
    assert "data.audio=mic1.flac" in sample.reason
    assert [sample.audio for sample in samples(path, "MIC2.flac")] == [flac(2)]


def test_a_sample_without_audio_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"words"), ("b.flac", flac(1)), ("c.flac", b"")])
    first, second, third = samples(path)
    assert "has no audio member" in first.reason
    assert "only txt" in first.reason
    assert second == Sample("b", flac(1))
    assert "empty" in third.reason


def test_the_first_of_repeated_keys_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    members = [("a.flac", flac(0)), ("a.flac", flac(1)), ("b.flac", flac(2)), ("a.flac", flac(3))]
    found = samples(write_tar(tmp_path / "a.tar", members))
    assert [sample.audio for sample in found if not sample.reason] == [flac(0), flac(2)]
    reasons = [sample.reason for sample in found if sample.reason]
    assert "two members are named 'a.flac'" in reasons[0]
    assert "two samples of the shard have its key" in reasons[1]


def test_a_json_that_marks_test_data_keeps_its_clip_out(tmp_path: Path) -> None:
    record = json.dumps({"split": "test-clean"}).encode()
    first, second = samples(write_tar(tmp_path / "a.tar", [("a.flac", flac(0)), ("a.json", record), ("b.flac", flac(1))]))
    assert "test-clean" in first.reason
    assert first.audio == b""
    assert second.audio == flac(1)


def test_a_shard_cut_anywhere_gives_its_whole_clips_and_is_named(whole: Path, tmp_path: Path) -> None:
    """webdataset takes a shard cut at the border of a member for whole, and gives the part of a sample that it has."""
    content, expected = whole.read_bytes(), samples(whole)
    cut = tmp_path / "cut.tar"
    with tarfile.open(whole) as tar:
        borders = [member.offset for member in tar.getmembers()]
    for place in (*borders[1:], borders[3] + 100, borders[4] + 600, len(content) // 2):
        cut.write_bytes(content[:place])
        found = samples(cut)
        assert found[-1].key == WHOLE_SHARD, place
        clips = [sample for sample in found if not sample.reason]
        assert clips == expected[: len(clips)]
        assert len(clips) >= place * len(expected) // len(content) - 1
    cut.write_bytes(content[: borders[6]])
    with open(cut, "rb") as file:
        assert len(list(tar_file_iterator(file))) == 6  # the defect is still there


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ended|no end mark|empty"),
        (b"this is no archive at all" * 100, "header"),
        (b"<html>404</html>", "header|truncated"),
        (gzip.compress(b"x" * 5000, mtime=0), "is compressed; give it as 'pipe:gzip -dc FILE'"),
    ],
    ids=["empty", "text", "html", "gzip"],
)
def test_what_is_no_tar_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    (sample,) = samples(path)
    assert sample.key == WHOLE_SHARD
    assert any(part in sample.reason for part in reason.split("|")), sample.reason


def test_a_damaged_header_between_members_is_named(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    with tarfile.open(whole) as tar:
        place = tar.getmembers()[9].offset  # of the fourth clip
    content[place + 5] ^= 1
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    found = samples(path)
    assert [sample.key for sample in found] == ["s000c000", "s000c001", "s000c002", WHOLE_SHARD]
    assert "damaged header" in found[-1].reason


def test_two_archives_in_one_file_are_named(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(whole.read_bytes() * 2)
    found = samples(path)
    assert len(found) == 7
    assert "several archives in one" in found[-1].reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (sample,) = samples(tmp_path / "none.tar")
    assert "cannot be opened" in sample.reason


def test_links_devices_and_hostile_sizes_do_no_harm(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in (("a.flac", tarfile.SYMTYPE), ("b.flac", tarfile.LNKTYPE), ("c.flac", tarfile.FIFOTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
        member = tarfile.TarInfo("../../d.flac")
        member.size = len(flac(0))
        tar.addfile(member, io.BytesIO(flac(0)))
    path = tmp_path / "a.tar"
    path.write_bytes(file.getvalue())
    assert samples(path) == [Sample("../../d", flac(0))]
    header = tarfile.TarInfo("e.flac")
    header.size = 1 << 50
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"few bytes")
    large, damage = samples(path)
    assert "larger than 1 GB" in large.reason
    assert damage.key == WHOLE_SHARD


def test_nothing_warns_or_is_left_open(whole: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples(whole)


def test_keys_with_dots_are_named_and_never_collapse_into_one_clip(tmp_path: Path) -> None:
    """A key ends at the first dot, as in webdataset, which makes one sample of both."""
    path = write_tar(tmp_path / "a.tar", [("a.1.flac", flac(1)), ("a.2.flac", flac(2)), ("b.3.flac", flac(3))])
    first, second = samples(path)
    assert first.audio == b""
    assert "has 2 audio members (1.flac, 2.flac)" in first.reason
    assert second == Sample("b", flac(3))


def test_many_samples_that_cannot_be_read_take_no_time(tmp_path: Path) -> None:
    """The handler `warn_and_continue` of webdataset sleeps half a second for each."""
    path = write_tar(tmp_path / "a.tar", [(f"{number // 2}.flac", b"x") for number in range(400)])
    begun = time.monotonic()
    assert len(samples(path)) == 400
    assert time.monotonic() - begun < 5.0


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_parsed_as_tarfile_parses_them(format: int) -> None:
    names = ["a.flac", "x" * 99, "x" * 100, "deep/" * 30 + "a.flac", "ö.flac", "a b.flac", ""]
    for name, size, kind in itertools.product(names, [0, 1, 511, 1 << 33, 1 << 40], [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]):
        member = tarfile.TarInfo(name)
        member.size, member.type, member.mtime, member.uname = size, kind, 1.0e9, "someone"
        try:
            header = member.tobuf(format)[-512:]
        except ValueError:  # too long or too large for the format
            continue
        theirs = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        ours = PlainTarInfo.frombuf(header, "utf-8", "surrogateescape")
        assert (ours.name, ours.size, ours.type) == (theirs.name, theirs.size, theirs.type)
        for place in range(0, 512, 3):
            damaged = header[:place] + bytes([header[place] ^ 0x15]) + header[place + 1 :]
            assert outcome(PlainTarInfo, damaged) == outcome(tarfile.TarInfo, damaged)


def outcome(kind: type[tarfile.TarInfo], header: bytes) -> object:
    try:
        member = kind.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return type(error)
    return member.name, member.size, member.type


def test_any_damage_gives_whole_clips_and_a_reason(whole: Path, tmp_path: Path) -> None:
    """Two hundred shards with bytes of headers or anywhere else changed, cut or repeated."""
    content, random = whole.read_bytes(), np.random.default_rng(0)
    clips = {(sample.key, sample.audio) for sample in samples(whole)}
    path = tmp_path / "a.tar"
    for number in range(200):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 3):
            damaged[int(place) // 512 * 512 + int(place) % 160 if number % 2 else int(place)] = int(random.integers(256))
        if number % 5 == 0:
            damaged = damaged[: int(random.integers(len(damaged)))]
        path.write_bytes(damaged)
        found = samples(path)
        assert len(found) <= 3 * len(clips)
        for sample in found:
            assert sample.audio or sample.reason
            assert "\n" not in sample.reason
