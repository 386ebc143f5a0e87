"""More readers of foreign bytes, as tests/test_fuzz.py: archives, tables of clips, tasks, sounds, configs, records of a server."""

from __future__ import annotations

import functools
import io
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from hear_ssl.data.packing.clips import PackOptions, outcomes
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.shards.clip_offsets import HEADER, MARK, UNKNOWN, load_clip_offsets, row_type
from hear_ssl.data.stream.decode import decode_into
from hear_ssl.download import Answer, transfer
from hear_ssl.evaluation.foreign.process import parse_header
from hear_ssl.evaluation.report.build import data_card
from hear_ssl.evaluation.scores_file import read_scores
from hear_ssl.evaluation.tasks import archive as tasks
from hear_ssl.evaluation.tasks.task_format import read_clip
from hear_ssl.model.__main__ import read_audio
from hear_ssl.packaging.model_card import sources_section
from hear_ssl.packaging.wheel_rules import wheel_rows
from hear_ssl.training.config import plain_config
from hear_ssl.training.config_sources import read_sources
from tests.hostile import COMPRESS, HOSTILE, header, pax, record
from tests.test_fuzz import NESTED, VALUES, attempt, damaged, folder, fuzzed, json_files, tar_file, tar_headers

SHARD_SHA256 = "0" * 64
SIZES = st.sampled_from([0, 1, 511, 512, 513, 2**31, 2**33, 2**60, 2**63, 2**64, 2**90, -1, -512, -(2**40)]) | st.integers(-4096, 4096)


@st.composite
def tar_blocks(draw: st.DrawFn) -> bytes:
    """Draw a tar of headers of any kind and size, pax records among them, with right checksums."""
    parts = [b""]
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([b"0", b"5", b"1", b"2", b"L", b"K", b"S", b"x", b"g", b"X", b"V", b"\0"]))
        keys = st.sampled_from(
            [b"size", b"path", b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.map", b"GNU.sparse.size", b"hdrcharset"]
        )
        values = st.sampled_from([b"1", b"0", b"-1", b"1024", b"9" * 40, b"0,1,2", b"BINARY", b"../../x.wav", b"a/b.wav", b"\xff"])
        records = b"".join(record(draw(keys), draw(values)) for _ in range(draw(st.integers(0, 4))))
        parts.append(draw(st.sampled_from([header(b"a/b.wav", draw(SIZES), kind, draw(st.booleans())), pax(records), pax(records, b"g")])))
        parts.append(draw(st.sampled_from([b"", bytes(512), b"1\n" * 256, b"9" * 512])))
    return b"".join([*parts, draw(st.sampled_from([bytes(1024), b""]))])


@functools.cache
def sounds() -> dict[str, bytes]:
    """Return a short sound in each format that is read."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    found = {}
    for name, kind, subtype in (
        ("wav", "WAV", "PCM_16"),
        ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, noise, 16000, format=kind, subtype=subtype)
        found[name] = buffer.getvalue()
    return found


@functools.cache
def zip_file() -> bytes:
    """Return a zip of two sounds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", sounds()["wav"])
        archive.writestr("b/c.flac", sounds()["flac"])
    return buffer.getvalue()


def pack_all(path: Path) -> None:
    """List what an archive holds and pack it."""
    for item in list_items([str(path)], "MIT", "train"):
        assert any(outcome is not None for outcome in outcomes(item, PackOptions()))


TARS = tar_blocks() | damaged(tar_file()) | tar_headers(tar_file()) | st.sampled_from(sorted(HOSTILE.values()))


@fuzzed
@given(TARS, st.sampled_from(sorted(COMPRESS)))
def test_packing_a_tar(content: bytes, end: str) -> None:
    attempt(pack_all, f"pack.tar{end}", COMPRESS[end](content))


@fuzzed
@given(st.data(), st.sampled_from([".gz", ".bz2", ".xz"]))
def test_packing_a_damaged_compressed_tar(data: st.DataObject, end: str) -> None:
    attempt(pack_all, f"damaged.tar{end}", data.draw(damaged(COMPRESS[end](tar_file()))))


@fuzzed
@given(st.data())
def test_packing_a_zip(data: st.DataObject) -> None:
    attempt(pack_all, "pack.zip", data.draw(damaged(zip_file())))


@fuzzed
@given(TARS)
def test_unpacking_a_task(content: bytes) -> None:
    def unpack(path: Path) -> None:
        shutil.rmtree(folder() / "unpacked", ignore_errors=True)
        tasks.unpack(path, "a", folder() / "unpacked", 10**7)

    attempt(unpack, "task.tar.gz", COMPRESS[".gz"](content))


def load_table(path: Path) -> None:
    """Read a table of clips next to a shard; what it names must lie in the shard."""
    table = load_clip_offsets(path.with_suffix(".tar"), SHARD_SHA256)
    for place in range(len(table or ())):
        assert table is not None
        clip = table.clip(place)
        assert clip is not None
        assert clip.checksum != UNKNOWN
        assert 0 <= clip.offset <= clip.offset + clip.size <= len(tar_file())
        assert 0 <= clip.json_offset <= clip.json_offset + clip.json_size <= len(tar_file())


@fuzzed
@given(
    st.lists(
        st.tuples(*[st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9999)] * 4, st.sampled_from([b"flac", b"wav", b"", b"exe"])),
        max_size=3,
    ),
    st.sampled_from([0, 1, 8, 2**20, 2**31, 2**32 - 1]),
    st.binary(max_size=40),
)
def test_table_of_clips(rows: list[tuple[Any, ...]], key_bytes: int, spare: bytes) -> None:
    """Its own checksum is right: whoever made the table could compute it."""
    (folder() / "table.tar").write_bytes(tar_file())
    body = np.array([(*row[:4], 0, row[4], b"k") for row in rows], row_type(8)).tobytes() if key_bytes == 8 else spare
    head = HEADER.pack(MARK, bytes(32), zlib.crc32(body, key_bytes), key_bytes)
    attempt(load_table, "table.clips", head + body)


@fuzzed
@given(st.data(), st.sampled_from(["wav", "flac", "ogg", "mp3"]))
def test_sounds(data: st.DataObject, kind: str) -> None:
    content = data.draw(damaged(sounds()[kind]))
    attempt(pack_all, f"sound.{kind}", content)
    attempt(lambda path: read_audio(str(path), 16000), f"sound.{kind}", content)
    attempt(lambda path: read_clip(path, 16000), f"sound.{kind}", content)
    attempt(lambda path: decode_into(np.empty((2, 800), np.float32), path.read_bytes(), [0.1, 0.9], 16000), f"sound.{kind}", content)


@fuzzed
@given(
    st.sampled_from([1, 2, 999, 1000, 2**22, 2**31 - 1]) | st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
)
def test_headers_of_a_wav(rate: int, channels: int, data_bytes: int) -> None:
    content = bytearray(sounds()["wav"])
    struct.pack_into("<HI", content, 22, channels, rate)
    struct.pack_into("<I", content, 40, data_bytes)
    attempt(pack_all, "rate.wav", bytes(content))
    attempt(lambda path: read_audio(str(path), 16000), "rate.wav", bytes(content))


CONFIG = {"name": "x", "seed": 1, "data": {"shards": ["a"], "weights": [1.0]}, "trainer": {"steps": 5}, "optimizer": {"frozen": ["a"]}}


@pytest.mark.slow
@fuzzed
@given(
    json_files(CONFIG)
    | st.text(max_size=60).map(str.encode)
    | st.sampled_from([b"name: ${oc.env:HOME}", b"a: &a [*a]", b"!!python/object:os.system x"])
)
def test_config(content: bytes) -> None:
    """Every JSON is YAML as well."""
    attempt(lambda path: plain_config(read_sources(path, [])), "config.yaml", content)


RECORD = {"files": [{"key": "a.tar.gz", "size": 5, "checksum": "md5:0"}]}


@fuzzed
@given(json_files(RECORD) | st.just(NESTED))
def test_record_of_a_server(content: bytes) -> None:
    def read(path: Path) -> None:
        def opened(url: str, file: Any, **options: Any) -> None:
            transfer(url, file, limit=options["limit"], opener=lambda url, start: Answer(io.BytesIO(path.read_bytes())))

        before, tasks.transfer = tasks.transfer, opened  # type: ignore[assignment]
        try:
            for remote in tasks.read_record("http://mirror").files.values():
                assert remote.bytes is not None
                assert remote.bytes >= 0
        finally:
            tasks.transfer = before

    attempt(read, "record.json", content)


ANSWER = {"arrays": [["float32", [2, 3]], ["int64", [2]]], "moved": ""}


@fuzzed
@given(json_files(ANSWER) | st.just(NESTED))
def test_answer_of_a_module_elsewhere(content: bytes) -> None:
    def read(path: Path) -> None:
        for dtype, shape in parse_header(path.read_bytes())[1]:
            assert np.dtype(dtype).kind in "fi"
            assert all(size >= 0 for size in shape)

    attempt(read, "answer.json", content)


SCORES = {"grid": "fast", "points": "x", "seeds": 1, "tasks": {"a": {"m": {"score": 0.5}}}, "faults": {}}


@fuzzed
@given(json_files(SCORES))
def test_scores(content: bytes) -> None:
    attempt(lambda path: read_scores(path.parent), "scores/scores.json", content)


@fuzzed
@given(st.data())
def test_wheel(data: st.DataObject) -> None:
    def read(path: Path) -> None:
        for row in wheel_rows(path, None):
            assert isinstance(row.measured, str)

    attempt(read, "x.whl", data.draw(damaged(zip_file())))


@fuzzed
@given(VALUES, VALUES, VALUES, VALUES)
def test_texts_of_a_data_card(name: Any, license: Any, hours: Any, clips: Any) -> None:
    source = {"name": name, "license": license, "hours": hours, "clips": clips}
    page = data_card({"hours": hours, "split": name, "sources": [source]})
    assert page.isprintable()
    assert page.count("<td>") == 3
    section = sources_section("x", {"hours": hours, "split": name, "sources": [{**source, "name": str(name), "license": str(license)}]})
    assert len(section.strip().splitlines()) == 5
    section.encode()


@pytest.mark.parametrize(("read", "name", "content"), [(pack_all, "w.tar", tar_file), (pack_all, "w.zip", zip_file)])
def test_what_is_whole_is_packed(read: Callable[[Path], Any], name: str, content: Callable[[], bytes]) -> None:
    assert attempt(read, name, content())


def test_a_whole_table_is_read() -> None:
    (folder() / "whole.tar").write_bytes(tar_file())
    with tarfile.open(folder() / "whole.tar") as tar:
        flac, text = tar.getmembers()[:2]
    row = (flac.offset_data, flac.size, text.offset_data, text.size, 0, b"flac", b"a")
    body = np.array([row], row_type(8)).tobytes()
    (folder() / "whole.clips").write_bytes(HEADER.pack(MARK, bytes(32), zlib.crc32(body, 8), 8) + body)
    table = load_clip_offsets(folder() / "whole.tar", SHARD_SHA256)
    assert table is not None
    assert len(table) == 1
