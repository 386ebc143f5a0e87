"""Archives of others end in one line, in a second and in little memory, whatever their headers promise."""

from __future__ import annotations

import gzip
import io
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing.clips import PackOptions, pack_item
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.clip_offsets import read_clips
from hear_ssl.evaluation.tasks.archive import unpack
from hear_ssl.model.__main__ import read_audio
from tests.hostile import CLIP, COMPRESS, END, HOSTILE, bomb, pax, record, whole_tar, zeros_as_headers

MEMORY = 48 << 20  # bytes; the largest map of a sparse file that is followed has a megabyte


@contextmanager
def bounded(seconds: float = 10.0) -> Iterator[None]:
    """Fail when a block takes many seconds of this process, or much memory of Python's."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert time.process_time() - start < seconds
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", COMPRESS)
@pytest.mark.parametrize("case", HOSTILE)
def test_headers_that_lie_are_one_line_for_pack(tmp_path: Path, case: str, end: str) -> None:
    path = bomb(tmp_path / f"a.tar{end}", HOSTILE[case])
    with bounded(), pytest.raises(ValueError, match=r"is damaged|unpacks to far more") as error:
        list_items([str(path)], "MIT", "train")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("case", HOSTILE)
def test_headers_that_lie_are_one_line_for_shards_and_tasks(tmp_path: Path, case: str) -> None:
    shard = bomb(tmp_path / "train-000000.tar", HOSTILE[case])
    with bounded(), pytest.raises(ValueError, match="is damaged") as error:
        read_clips(shard)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match="is damaged"):
        reindex(tmp_path, "MIT")
    task = bomb(tmp_path / "task.tar.gz", HOSTILE[case])
    with bounded(), pytest.raises(ValueError, match="is damaged") as error:
        unpack(task, "a", tmp_path / "out", 10**8)
    assert len(str(error.value).splitlines()) == 1


def test_a_pax_bomb_of_megabytes_unpacks_to_nothing(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(CLIP + pax(record(b"comment", b"x" * (200 << 20))))
    for read in (
        lambda: list_items([str(tmp_path / "a.tar.gz")], "MIT", "train"),
        lambda: unpack(tmp_path / "a.tar.gz", "a", tmp_path, 10**9),
    ):
        with bounded(), pytest.raises(ValueError, match="damaged"):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("end", [".gz", ".bz2", ".xz"])
def test_more_files_than_an_archive_can_hold_are_refused(tmp_path: Path, end: str) -> None:
    path = bomb(tmp_path / f"a.tar{end}", zeros_as_headers(60_000))
    with bounded(20.0), pytest.raises(ValueError, match=r"holds more than|unpacks to far more"):
        list_items([str(path)], "MIT", "train")


def test_a_task_of_more_files_than_its_clips_is_refused(tmp_path: Path) -> None:
    names = b"".join(CLIP.replace(b"a/a.wav", b"a/%05d" % number)[:512] for number in range(30))
    with pytest.raises(ValueError, match=r"damaged|holds more than 20 files"):
        unpack(bomb(tmp_path / "t.tar.gz", names + END), "a", tmp_path / "out", 10**9, most_files=20)


def test_long_names_and_attributes_of_real_tools_are_read(tmp_path: Path) -> None:
    names = ["a/" + "x" * 300 + ".wav", "a/größe.wav", "a/b.wav"]
    for end in COMPRESS:
        path = bomb(tmp_path / f"a.tar{end}", whole_tar(names))
        assert sorted(item.name for item in list_items([str(path)], "MIT", "train") if not item.refused) == sorted(names)


def test_a_zip_whose_members_share_their_bytes_is_refused_beyond_its_size(tmp_path: Path) -> None:
    """As D. Fifield, A better zip bomb (WOOT 2019): each member alone has an allowed ratio."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(150_000))
        first = archive.infolist()[0]
        for number in range(3000):
            same = zipfile.ZipInfo(f"{number}.wav")
            same.compress_type, same.compress_size, same.file_size = first.compress_type, first.compress_size, first.file_size
            same.CRC, same.header_offset = first.CRC, first.header_offset
            archive.filelist.append(same)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    items = list_items([str(tmp_path / "a.zip")], "MIT", "train")
    taken = sum(item.size for item in items if not item.refused)
    assert taken <= 200 * (tmp_path / "a.zip").stat().st_size < sum(item.size for item in items)


@pytest.mark.parametrize("rate", [1, 7, 999, 2**31 - 1])
def test_a_sample_rate_that_makes_gigabytes_of_kilobytes_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(20000, 0.1, np.float32), 8000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    item = list_items([str(tmp_path / "a.wav")], "MIT", "train")[0]
    with bounded():
        packed = pack_item(item, PackOptions(min_seconds=1e-6, max_seconds=1e6))
    assert [reason for _, reason in packed.rejected] == [f"unreadable: its sample rate is {rate} Hz; from 1000 to 4194304 Hz can be read"]
    with bounded(), pytest.raises(ValueError, match=f"a.wav cannot be read as audio .its sample rate is {rate} Hz"):
        read_audio(str(tmp_path / "a.wav"), 16000)
