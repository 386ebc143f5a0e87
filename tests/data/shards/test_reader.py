"""Shards: every read is tarfile's own, and damage never passes for a shorter shard."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from braceexpand import braceexpand

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.packing.shard_writer import EncodedClip, write_shard
from hear_ssl.data.shards.clip_offsets import SUFFIX, Clip, read_bytes, read_clips
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, read_index, write_index
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.test_data_rule import TEST_MARKS
from hear_ssl.training.datamodule import ShardDataModule
from tests.data.reading import batches
from tests.data.sounds import encoded, tone


def shard_folder(folder: Path, counts: tuple[int, ...] = (3, 4), split: str = "train", rate: int = 16000, source: str = "a") -> Path:
    """Write shards of short clips with the packer's own writer, and their index."""
    shards, first = [], 0
    for number, count in enumerate(counts):
        clips = []
        for clip in range(first, first + count):
            record = {"source": source, "license": "CC0-1.0", "seconds": 0.1 + 0.01 * clip, "clip": clip}
            audio = encoded(tone(0.1 + 0.01 * clip, 300.0 + 40 * clip, rate), rate, "FLAC")
            clips.append(EncodedClip(f"{source}-{clip:04d}", "flac", audio, record))
        shards.append(write_shard(folder / f"{split}-{number:06d}.tar", clips))
        first += count
    hours = sum(shard.seconds for shard in shards) / 3600
    write_index(folder, ShardIndex(rate, "flac", split, hours, first, tuple(shards), (SourceRecord(source, "CC0-1.0", hours, first),), {}))
    return folder


def copied(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def believed(folder: Path) -> Path:
    """Make the index believe the sizes that the shards have now, and drop the tables that know better."""
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink()
    index = read_index(folder)
    shards = tuple(replace(shard, bytes=os.path.getsize(folder / shard.name)) for shard in index.shards)
    write_index(folder, replace(index, shards=shards))
    return folder


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_reads_are_those_of_tarfile_in_the_order_of_folders_shards_and_members(tmp_path: Path) -> None:
    folders = [shard_folder(tmp_path / "one"), shard_folder(tmp_path / "two", (2,), source="b")]
    found = ShardSet([str(folder) for folder in folders])
    expected = []
    for path in (folders[0] / "train-000000.tar", folders[0] / "train-000001.tar", folders[1] / "train-000000.tar"):
        with tarfile.open(path) as tar:
            for audio, record in zip(*[iter(tar.getmembers())] * 2, strict=True):
                contents = [file.read() for file in (tar.extractfile(audio), tar.extractfile(record)) if file]
                expected.append((str(path), audio.name.removesuffix(".flac"), contents[0], json.loads(contents[1])))
    assert len(expected) == 9
    assert [(clip.shard, clip.key, found.audio(clip), found.record(clip)) for clip in found.clips] == expected


def test_webdataset_writes_what_is_read_and_reads_what_is_written(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "ours")
    ours = ShardSet([str(folder)])
    theirs = list(webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in theirs] == [clip.key for clip in ours.clips[:3]]
    assert [sample["flac"] for sample in theirs] == [ours.audio(clip) for clip in ours.clips[:3]]
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        for sample in theirs:
            writer.write({key: value for key, value in sample.items() if key in ("__key__", "flac", "json")})
    clips = read_clips(tmp_path / "theirs.tar")
    assert [read_bytes(clip.shard, clip.offset, clip.size) for clip in clips] == [sample["flac"] for sample in theirs]


def test_members_that_are_no_clip_are_passed_over(tmp_path: Path) -> None:
    directory = tarfile.TarInfo("folder")
    directory.type = tarfile.DIRTYPE
    table = read_clips(tar_of(tmp_path / "a.tar", {"folder": directory, "k.wav": b"sound", "k.txt": b"words", "k.JSON": b"{}"}))
    assert [(clip.key, clip.codec, read_bytes(clip.shard, clip.offset, clip.size)) for clip in table] == [("k", "wav", b"sound")]


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"k.flac": b"sound", "l.json": b"{}"}, r"clip 'l' has no audio member"),
        (
            {"k.a.flac": b"sound", "k.b.flac": b"sound"},
            r"clip 'k' has 2 audio members \(a\.flac, b\.flac\); choose one with --audio a\.flac",
        ),
        ({"k.json": b"{}", "k.m4a": b""}, r"clip 'k' has no audio member \(flac, wav, ogg, opus, mp3\), only json, m4a"),
        ({"k": b"", "k.json": b""}, r"clip 'k' has no audio member"),
        ({"k.flac": b"", "k.json": b"", "k.FLAC": b""}, r"two members are named 'k.FLAC'"),
    ],
)
def test_a_clip_without_a_member_is_named(tmp_path: Path, members: dict[str, bytes | tarfile.TarInfo], line: str) -> None:
    with pytest.raises(ValueError, match=rf"a.tar is damaged \({line}"):
        read_clips(tar_of(tmp_path / "a.tar", members))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 2000, b"no tar at all" * 100, encoded(tone(0.5))])
def test_a_file_that_is_no_tar_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar is damaged \(.*\); pack or download it again$") as caught:
        read_clips(tmp_path / "a.tar")
    assert "\n" not in str(caught.value)


def kept(folder: Path, whole: list[Clip], contents: list[Any]) -> int:
    """Return how many clips can still be read; each must be the one of its number, and what is damaged must be named."""
    found = ShardSet([str(folder)])
    assert len(found) == len(whole)
    count = 0
    for number, clip in enumerate(whole):
        try:
            read = found.clip(number)
            content = (found.audio(read), found.record(read))
        except ValueError:
            assert found.place(number)[0].endswith("train-000000.tar")
        else:
            assert (read, content) == (clip, contents[number])
            count += 1
    if found.table(0).damage:
        with pytest.raises(ValueError, match=r"train-000000.tar is damaged \(.*\); pack or download it again$"):
            _ = found.clips
    else:
        assert found.clips == whole
        assert count == len(whole)
    return count


def test_with_its_table_a_shard_loses_no_clip_to_damaged_headers(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards")
    whole = ShardSet([str(folder)])
    contents = [(whole.audio(clip), whole.record(clip)) for clip in whole.clips]
    clips = whole.clips
    with open(folder / "train-000000.tar", "r+b") as file:
        for place in (0, clips[1].offset - 512, clips[2].json_offset - 512):
            file.seek(place)
            file.write(b"\xff" * 512)
    assert kept(folder, clips, contents) == 7


def test_a_truncated_shard_keeps_the_clips_before_its_end_and_their_numbers(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards")
    whole = ShardSet([str(folder)])
    contents = [(whole.audio(clip), whole.record(clip)) for clip in whole.clips]
    path = folder / "train-000000.tar"
    content = path.read_bytes()
    clips = whole.clips
    ends = [clip.json_offset + clip.json_size for clip in clips[:3]]
    for length in sorted({*range(0, len(content), 512), *range(0, len(content), 333)}):
        path.write_bytes(content[:length])
        assert list(ShardSet([str(folder)]).damage().values()) == [f"has {length} bytes, the index states {len(content)}"]
        count = kept(believed(folder), clips, contents)
        assert count == 4 + sum(end <= length for end in ends)
        path.write_bytes(content)
        believed(folder)


def test_without_a_table_a_flipped_bit_in_a_header_loses_clips_and_shifts_none(tmp_path: Path) -> None:
    folder = believed(shard_folder(tmp_path / "shards"))
    whole = ShardSet([str(folder)])
    contents = [(whole.audio(clip), whole.record(clip)) for clip in whole.clips]
    path = folder / "train-000000.tar"
    content = path.read_bytes()
    clips, counts = whole.clips, []
    for start in (0, clips[1].offset - 512, clips[2].json_offset - 512):
        for place in range(start, start + 512, 3):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            counts.append(kept(folder, clips, contents))
    assert counts.count(7) < 13  # of 513; what does not change a checksum's value may pass
    assert {4, 5, 6} <= set(counts)


def test_a_table_does_not_end_quietly_at_a_damaged_header(tmp_path: Path) -> None:
    path = shard_folder(tmp_path / "shards") / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[read_clips(path)[1].offset - 512] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged"):
        read_clips(path)


def test_a_shard_with_other_clips_than_the_index_says_is_named(tmp_path: Path) -> None:
    folder, other = shard_folder(tmp_path / "one", (3,)), shard_folder(tmp_path / "two", (2,))
    (folder / "train-000000.tar").write_bytes((other / "train-000000.tar").read_bytes())
    with pytest.raises(ValueError, match=r"train-000000.tar is damaged \(it holds 2 clips, the index states 3\)"):
        _ = ShardSet([str(believed(folder))]).clips


def test_a_missing_shard_or_index_is_named(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards")
    (folder / "train-000001.tar").unlink()
    with pytest.raises(ValueError, match=r"train-000001.tar is damaged \(missing\)"):
        _ = ShardSet([str(folder)]).clips
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=r"has no index.json"):
        ShardSet([str(folder)])
    with pytest.raises(ValueError, match=r"data.shards is empty"):
        ShardSet([])


@pytest.mark.parametrize("content", [b"[1, 2]", b"{", b"\xff\xfe", b"null"])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    folder = shard_folder(tmp_path / "shards")
    found = ShardSet([str(folder)])
    clip = found.clips[1]
    with open(clip.shard, "r+b") as file:
        file.seek(clip.json_offset)
        file.write(content.ljust(clip.json_size))
    with pytest.raises(ValueError, match=r"the JSON of clip a-0001 in .*train-000000.tar is"):
        found.record(clip)
    assert found.record(found.clips[2])["clip"] == 2


def test_a_read_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards", (2,))
    found = ShardSet([str(folder)])
    clips = found.clips
    os.truncate(clips[1].shard, clips[1].offset + 10)
    with pytest.raises(ValueError, match=r"train-000000.tar ended early"):
        found.audio(clips[1])
    os.remove(clips[0].shard)
    with pytest.raises(FileNotFoundError):
        found.audio(clips[0])


@pytest.mark.parametrize("split", [*sorted(TEST_MARKS), "Test", "EVAL"])
def test_shards_marked_as_test_are_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=rf"index of .*shards names the split '{split}': refused by the HEAR rule"):
        ShardSet([str(shard_folder(tmp_path / "shards", (1,), split=split))])


def test_more_damage_than_allowed_ends_before_the_training_with_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shard_folder(tmp_path / "shards", (1, 9, 10))
    (folder / "train-000000.tar").unlink()
    config = DataConfig(shards=[str(folder)], batch_size=4, crops=[CropConfig(0.05)], max_lost_fraction=0.05)
    line = r"train-000000.tar is damaged: missing; 1 clips"
    data = ShardDataModule(config, 16000, 0)
    assert re.search(line, capsys.readouterr().out)
    for batch in batches(BatchStream(data.shards, config, 16000, 0), 5):
        data.count(batch)
    assert data.unreadable.summary() == f"{folder}/train-000000.tar (1)"
    with pytest.raises(ValueError, match=rf"{line}: restore them or pack again"):
        ShardDataModule(replace(config, max_lost_fraction=0.01), 16000, 0)


@pytest.mark.parametrize("window", [0, 1])
def test_more_clips_than_its_bytes_hold_end_before_any_is_ordered(tmp_path: Path, window: int) -> None:
    folder = shard_folder(tmp_path / "shards", (1, 1))
    index = read_index(folder)
    write_index(folder, replace(index, clips=10**9, shards=(replace(index.shards[0], clips=10**9 - 1), index.shards[1])))
    with pytest.raises(ValueError, match=r"train-000000.tar is damaged: the index states 999999999 clips in 10240 bytes"):
        ShardDataModule(DataConfig(shards=[str(folder)], window_shards=window), 16000, 0)


@pytest.mark.parametrize("entry", ["train-{000000..000001}.tar", "train-00000{1,0}.tar", "train-000001.tar"])
def test_a_brace_list_takes_its_shards_alone(tmp_path: Path, entry: str) -> None:
    folder = shard_folder(tmp_path / "shards", (2, 3, 4))
    found = ShardSet([f"{folder}/{entry}"])
    names = [Path(name).name for name in braceexpand(entry)]
    assert [record.name for _, record in found.shards] == names
    expected = [clip for name in names for clip in read_clips(folder / name)]
    assert found.clips == expected
    assert len(found) == found.indexes[0].clips == len(expected)
    (source,) = found.data_card()["sources"]
    assert (source["clips"], source["hours"]) == (len(expected), found.data_card()["hours"])


@pytest.mark.parametrize("entries", [["", "/"], ["", "/train-000001.tar"], ["/train-00000{0,1}.tar", "/train-{000001..000002}.tar"]])
def test_a_shard_of_two_entries_is_refused(tmp_path: Path, entries: list[str]) -> None:
    folder = shard_folder(tmp_path / "shards", (1, 1, 1))
    (tmp_path / "link").symlink_to(folder)
    for second in (folder, tmp_path / "link"):
        with pytest.raises(ValueError, match=r"^data.shards holds .*/train-00000\d.tar twice; name each shard once"):
            ShardSet([f"{folder}{entries[0]}", f"{second}{entries[1]}"])
    assert len(ShardSet([f"{folder}/train-000000.tar", f"{folder}/train-00000{{1,2}}.tar"])) == 3


@pytest.mark.parametrize("entry", ["~/shards", "~/shards/train-{000000..000001}.tar"])
def test_the_home_folder_is_found(tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shard_folder(tmp_path / "shards")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(ShardSet([entry])) == 7


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("train-{000000..000003}.tar", "names train-000002.tar, which is not in its index"),
        ("train-{0.tar", "do not pair"),
        ("{a,b}/train-000000.tar", "names the folders .*; give each as an entry of its own"),
    ],
)
def test_a_brace_list_that_is_wrong_is_named(tmp_path: Path, entry: str, line: str) -> None:
    folder = shard_folder(tmp_path / "shards", (1, 1))
    with pytest.raises(ValueError, match=line):
        ShardSet([f"{folder}/{entry}"])


def test_tables_beyond_the_number_kept_are_read_again(tmp_path: Path) -> None:
    folder = shard_folder(tmp_path / "shards", (2, 2, 2, 2))
    few, all_of_them = ShardSet([str(folder)], tables_kept=2), ShardSet([str(folder)])
    for number in (0, 7, 3, 1, 5, 0):
        assert few.clip(number) == all_of_them.clip(number)
        assert len(few._tables) <= 2
    assert pickle.loads(pickle.dumps(few)).clip(3) == few.clip(3)


def test_shards_of_two_rates_are_refused(tmp_path: Path) -> None:
    folders = [shard_folder(tmp_path / "one", (1,)), shard_folder(tmp_path / "two", (1,), rate=32000)]
    with pytest.raises(ValueError, match=r"the shards have 16000, 32000 Hz, the model wants 16000 Hz"):
        ShardDataModule(DataConfig(shards=[str(folder) for folder in folders]), 16000, 0)


def test_the_data_card_adds_up_hours_and_keeps_every_licence(tmp_path: Path) -> None:
    folders = [
        shard_folder(tmp_path / "one"),
        shard_folder(tmp_path / "two", (2,), split="valid", source="b"),
        shard_folder(tmp_path / "three", (2,)),  # of the first one's source
    ]
    card = ShardSet([str(folder) for folder in folders]).data_card()
    seconds = np.array([0.1 + 0.01 * clip for clip in range(7)])
    assert card["hours"] == pytest.approx((seconds.sum() + 2 * seconds[:2].sum()) / 3600)
    assert card["split"] == "train, valid"
    assert [(source["name"], source["license"], source["clips"]) for source in card["sources"]] == [
        ("a", "CC0-1.0", 9),
        ("b", "CC0-1.0", 2),
    ]
