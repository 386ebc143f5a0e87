"""Whatever bytes a reader is given, it returns a result or raises a ValueError of one line; nothing else.

FUZZ_EXAMPLES=20000 python -m pytest tests/test_fuzz.py tries that many in each test.
"""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.data.shards.clip_offsets import read_clips
from hear_ssl.data.shards.shard_index import FORMAT, ShardIndex, ShardRecord, SourceRecord, read_index
from hear_ssl.data.stream.tar_samples import Sample, read_samples
from hear_ssl.evaluation.tasks.task_format import read_task
from hear_ssl.model import manifest as manifests
from hear_ssl.model.embedder_config import EmbedderConfig
from hear_ssl.model.options import to_mapping
from hear_ssl.model.weights import read_tensors, serialise_tensors

fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")), deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
NESTED = b"[" * 100_000
NUMBERS = st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), -0.0])
WORDS = st.sampled_from(["", ".", "..", "../x", "/etc/passwd", "a\nb", "\x00", "\ud800", "train", "scene", "event", "ä" * 300])
KEYS = st.text(max_size=8) | WORDS
LEAVES = st.none() | st.booleans() | st.integers() | NUMBERS | st.floats() | WORDS | st.text(max_size=12)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


@functools.cache
def folder() -> Path:
    """Return a folder for the files of all examples."""
    return Path(tempfile.mkdtemp(prefix="hear-fuzz-"))


def attempt(read: Callable[[Path], Any], name: str, content: bytes) -> bool:
    """Write the content and read it; say whether it was accepted."""
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        read(path)
    except ValueError as error:
        message = str(error)
    else:
        return True
    assert len(message.splitlines()) == 1, f"not one line: {message!r}"
    return False


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file: a whole one with bytes replaced, cut out, doubled or cut off, or no such file at all."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        place, length = draw(st.integers(0, len(content))), draw(st.integers(0, 16))
        kind = draw(st.sampled_from(["replace", "insert", "cut", "end", "double"]))
        new = draw(st.binary(min_size=length, max_size=length))
        if kind == "replace":
            content[place : place + length] = new
        elif kind == "insert":
            content[place:place] = new
        elif kind == "cut":
            del content[place : place + length]
        elif kind == "end":
            del content[place:]
        else:
            content[place:place] = content[place : place + 512]
    return draw(st.sampled_from([bytes(content)] * 8 + [NESTED, draw(st.binary(max_size=64))]))


@st.composite
def changed(draw: st.DrawFn, mapping: Any) -> Any:
    """Draw a JSON value like the given one, with values at some places replaced, left out or added."""
    copy = json.loads(json.dumps(mapping))
    for _ in range(draw(st.integers(0, 3))):
        place = copy
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 4)):
                place[key] = draw(VALUES)
            else:
                del place[key]
            break
        if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
            place[draw(KEYS)] = draw(VALUES)
    return copy


def json_files(mapping: Any) -> st.SearchStrategy[bytes]:
    """Return a strategy of files: changed JSON, damaged JSON, any JSON."""
    text = changed(mapping).map(lambda value: json.dumps(value).encode())
    return text | text | damaged(json.dumps(mapping).encode()) | VALUES.map(lambda value: json.dumps(value).encode())


MANIFEST = {
    "format": manifests.FORMAT,
    "name": "hear_x",
    "version": "0.1.0",
    "embedder": to_mapping(EmbedderConfig()),
    "weights": {"url": "https://example.com/w", "file": "w.safetensors", "sha256": "0" * 64, "bytes": 9},
    "sizes": {"sample_rate": 16000},
    "training": {"data": {"sources": []}},
}
RECORD = ShardRecord("shard-000000.tar", 2, 10240, "0" * 64, 4.0)
INDEX = {
    "format": FORMAT,
    **asdict(ShardIndex(16000, "flac", "train", 0.1, 2, (RECORD,), (SourceRecord("a", "CC0", 0.1, 2),), {"silent": 1})),
}
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3), "empty": torch.zeros(0, 4)}
WEIGHTS = serialise_tensors(TENSORS, {"format": "pt"})
HEADER_LENGTH = struct.unpack("<Q", WEIGHTS[:8])[0]
HEADER = json.loads(WEIGHTS[8 : 8 + HEADER_LENGTH])
TASK = {
    "task_name": "x",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "trainvaltest",
    "splits": ["train", "valid", "test"],
    "evaluation": ["top1_acc"],
    "sample_duration": 1.0,
    "evaluation_params": {"task_specific_param_grid": {}},
}
EVENTS = {**TASK, "embedding_type": "event", "prediction_type": "multilabel", "evaluation": ["event_onset_200ms_fms"]}


def with_header(header: Any) -> bytes:
    """Return a safetensors file with another header before the same tensors."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + WEIGHTS[8 + HEADER_LENGTH :]


def tar_file() -> bytes:
    """Return a shard of two clips."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key in ("a", "b"):
            for suffix, content in (("flac", b"fLaC" * 9), ("json", b"{}")):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@st.composite
def tar_headers(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a tar with fields of a header replaced and its checksum made right again."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        start = 512 * draw(st.sampled_from([0, 2, 4, 6]))
        place, length = draw(st.sampled_from([(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)]))
        field = draw(
            st.binary(max_size=length) | st.sampled_from([b"../../x.flac", b"/etc/x.json", b"77777777777", b"-1", b"L", b"x", b"S", b"2"])
        )
        content[start + place : start + place + length] = field[:length].ljust(length, b"\0")
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return bytes(content)


@fuzzed
@given(damaged(WEIGHTS) | changed(HEADER).map(with_header) | VALUES.map(with_header))
def test_safetensors(content: bytes) -> None:
    attempt(read_tensors, "w.safetensors", content)


@fuzzed
@given(json_files(MANIFEST))
def test_manifest(content: bytes) -> None:
    attempt(manifests.read_manifest, "manifest.json", content)


@fuzzed
@given(json_files(INDEX))
def test_index(content: bytes) -> None:
    attempt(read_index, "index.json", content)


@fuzzed
@given(damaged(tar_file()) | tar_headers(tar_file()))
def test_shard_table(content: bytes) -> None:
    attempt(read_clips, "shard.tar", content)
    assert attempt(streamed, "shard.tar", content)  # damage is named, never raised


def streamed(path: Path) -> list[Sample]:
    """Return what a shard without an index has, its damage included."""
    return list(read_samples(str(path)))


@functools.cache
def write_task(name: str) -> None:
    """Write the files of a right task but for its metadata, which comes last."""
    place = folder() / name
    place.mkdir()
    (place / "labelvocabulary.csv").write_text("idx,label\n0,cat\n1,dog\n")
    entry = [{"label": "cat", "start": 0.0, "end": 9.0}] if name == "events" else ["cat"]
    for split in ("train", "valid", "test"):
        (place / f"{split}.json").write_text(json.dumps({"a.wav": entry}))
    (place / "task_metadata.json").write_text(json.dumps(EVENTS if name == "events" else TASK))


@fuzzed
@given(st.data(), st.sampled_from(["scene", "events"]))
def test_task(data: st.DataObject, name: str) -> None:
    write_task(name)
    entry = [{"label": "cat", "start": 0.0, "end": 9.0}] if name == "events" else ["cat"]
    files = {
        "task_metadata.json": json_files(EVENTS if name == "events" else TASK),
        "train.json": json_files({"a.wav": entry, "b.wav": entry}),
        "labelvocabulary.csv": damaged(b"idx,label\n0,cat\n1,dog\n"),
    }
    file = data.draw(st.sampled_from(sorted(files)))
    whole = (folder() / name / file).read_bytes()
    try:
        attempt(lambda path: read_task(path.parent), f"{name}/{file}", data.draw(files[file]))
    finally:
        (folder() / name / file).write_bytes(whole)


def checkpoint_file() -> bytes:
    """Return a small checkpoint."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"embedder.a": torch.zeros(3)}, "config": {"embedder": {}}}, buffer)
    return buffer.getvalue()


@fuzzed
@given(damaged(checkpoint_file()))
def test_checkpoint(content: bytes) -> None:
    attempt(load_checkpoint, "last.ckpt", content)


@pytest.mark.parametrize(
    ("read", "name", "content"),
    [
        (read_tensors, "w.safetensors", WEIGHTS),
        (manifests.read_manifest, "manifest.json", json.dumps(MANIFEST).encode()),
        (read_index, "index.json", json.dumps(INDEX).encode()),
        (read_clips, "shard.tar", tar_file()),
        (load_checkpoint, "last.ckpt", checkpoint_file()),
    ],
)
def test_what_is_whole_is_accepted(read: Callable[[Path], Any], name: str, content: bytes) -> None:
    assert attempt(read, name, content)


@pytest.mark.parametrize("name", ["scene", "events"])
def test_a_whole_task_is_accepted(name: str) -> None:
    write_task(name)
    assert read_task(folder() / name).labels == ("cat", "dog")
