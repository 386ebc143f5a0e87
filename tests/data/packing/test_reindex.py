"""Shards of another writer get an index and train as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import webdataset

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.data.stream.batch import UnreadableClip
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.data.stream.unreadable import UnreadableClips
from hear_ssl.training.datamodule import ShardDataModule
from tests.data.shards.test_reader import tar_of
from tests.data.sounds import encoded, tone


def foreign(folder: Path, rates: tuple[int, ...] = (16000, 16000), audio: bytes | None = None, record: Any = None) -> Path:
    """Write two clips a shard with webdataset's own writer, with a member of text next to each."""
    folder.mkdir()
    for number, rate in enumerate(rates):
        with webdataset.TarWriter(str(folder / f"part-{number:02d}.tar")) as writer:
            for clip in range(2):
                content = audio or encoded(tone(0.5 + number, 300.0 + 50 * clip, rate), rate, "FLAC" if clip else "WAV")
                writer.write(
                    {"__key__": f"x{number}{clip}", "flac" if clip else "wav": content, "json": record or {"label": "?"}, "txt": "words"}
                )
    return folder


def test_shards_of_webdataset_train_after_indexing(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs")
    index = reindex(folder, "CC-BY-4.0", "theirs")
    assert index == read_index(folder)
    assert (index.clips, index.sample_rate, index.codec) == (4, 16000, "flac+wav")
    assert index.hours * 3600 == pytest.approx(2 * 0.5 + 2 * 1.5, abs=0.01)
    config = DataConfig(shards=[str(folder)], batch_size=4, crops=[CropConfig(0.3)], workers=0)
    data = ShardDataModule(config, 16000, 0)
    batch = BatchStream(data.shards, config, 16000, 0).batch(0)
    assert (sorted(batch.keys), batch.lost) == (["x00", "x01", "x10", "x11"], [])
    assert data.data_card()["sources"][0]["license"] == "CC-BY-4.0"


def test_names_and_orders_that_webdataset_reads_are_read_alike(tmp_path: Path) -> None:
    sound = encoded(tone(0.5), format="FLAC")
    names = [
        "README",
        "LICENSE.txt",
        "./a.flac",
        "./a.json",
        "d.v1/b.flac",
        "d.v1/b.json",
        "d.v1/.hidden.flac",
        "c.json",
        "c.txt",
        "c.FLAC",
    ]
    split = ["e.flac", "f.flac", "e.json", "f.json"]  # sorted by suffix: webdataset itself makes four samples of these
    contents = {name: b"{}" if name.endswith("json") else sound if name.lower().endswith("flac") else b"words" for name in names + split}
    path = tar_of(tmp_path / "a.tar", contents)  # type: ignore[arg-type]
    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False) if "flac" in sample]
    assert reindex(tmp_path, "MIT").clips == 5
    assert [clip.key for clip in ShardSet([str(tmp_path)]).clips] == theirs == ["./a", "d.v1/b", "c", "e", "f"]
    losses = UnreadableClips(1.0)
    losses.count(5, [UnreadableClip(*ShardSet([str(tmp_path)]).place(number), "gone") for number in range(5)])
    assert losses.summary() == f"{path} (5)"


def test_what_cannot_be_indexed_is_named_and_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"part-01.tar: clip x10 has 8000 Hz"):
        reindex(foreign(tmp_path / "rates", (16000, 8000)), "MIT")
    with pytest.raises(ValueError, match=r"part-00.tar: clip x00 does not decode"):
        reindex(foreign(tmp_path / "noise", audio=b"no sound"), "MIT")
    with pytest.raises(ValueError, match=r"part-00.tar: clip x00 does not decode \(does not decode after 4096 samples\)"):
        reindex(foreign(tmp_path / "cut", audio=encoded(tone(5.0), format="FLAC")[:4000]), "MIT")
    with pytest.raises(ValueError, match=r"holds no \.tar shards"):
        reindex(tmp_path, "MIT")
    with pytest.raises(ValueError, match="marked as test"):
        reindex(tmp_path / "rates", "MIT", split="eval")
    with pytest.raises(ValueError, match=r"part-00.tar: the JSON of clip x00 names the split 'test-clean': refused by the HEAR rule"):
        reindex(foreign(tmp_path / "stated", record={"split": "test-clean"}), "MIT")
    with pytest.raises(ValueError, match=r"part-00.tar: the JSON of clip x00 is damaged"):
        reindex(foreign(tmp_path / "json", record=b"{"), "MIT")
    assert not list(tmp_path.rglob("index.json"))


def test_an_index_is_never_overwritten(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "theirs")
    reindex(folder, "MIT")
    with pytest.raises(FileExistsError, match="already exists"):
        reindex(folder, "MIT")


@pytest.mark.parametrize("suffix", ["audio.wav", "flac.flac", "flac"])
def test_clips_need_no_json_and_may_have_longer_suffixes(tmp_path: Path, suffix: str) -> None:
    contents = {
        f"clip{number}.{name}": content for number in range(3) for name, content in ((suffix, sound(number, suffix)), ("txt", b"x"))
    }
    tar_of(tmp_path / "a.tar", contents)  # type: ignore[arg-type]
    index = reindex(tmp_path, "MIT")
    assert (index.clips, index.codec) == (3, suffix.rpartition(".")[2])
    reader = ShardSet([str(tmp_path)])
    assert [reader.audio(clip) for clip in reader.clips] == [sound(number, suffix) for number in range(3)]
    assert reader.record(reader.clips[0]) == {}
    config = DataConfig(shards=[str(tmp_path)], batch_size=3, crops=[CropConfig(0.3)], workers=0)
    assert not BatchStream(reader, config, 16000, 0).batch(0).lost


def test_one_of_several_audio_members_is_chosen_and_stays_chosen_without_the_table(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", {"k.mic1.flac": sound(1), "k.mic2.flac": sound(2), "k.json": b"{}"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has 2 audio members \(mic1\.flac, mic2\.flac\); choose one with --audio mic1\.flac"):
        reindex(tmp_path, "MIT")
    assert reindex(tmp_path, "MIT", audio="mic2.flac") == read_index(tmp_path)
    for _ in range(2):
        reader = ShardSet([str(tmp_path)])
        assert [reader.audio(clip) for clip in reader.clips] == [sound(2)]
        (tmp_path / "a.clips").unlink(missing_ok=True)


def sound(number: int, suffix: str = "flac") -> bytes:
    return encoded(tone(0.5, 300.0 + 50 * number), format=suffix.rpartition(".")[2].upper())
