"""Samples of shards without an index: every layout that is common, and all that can be wrong with a shard is named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import warnings
from pathlib import Path

import pytest
import webdataset
from webdataset.tariterators import tar_file_iterator

from hear_ssl.data.stream.tar_samples import WHOLE_SHARD, Sample, read_samples
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
        (gzip.compress(b"x" * 5000), "is compressed; give it as 'pipe:gzip -dc FILE'"),
    ],
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
