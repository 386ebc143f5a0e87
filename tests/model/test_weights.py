"""safetensors by hand: round trip, same bytes, and every kind of damage refused in one line."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hear_ssl.model
from hear_ssl.model.weights import load_weights, read_tensors, serialise_tensors

TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.tensor(3, dtype=torch.int64),
    "empty": torch.zeros(0, 4),
    "half": torch.randn(5).half(),
    "slice": torch.arange(10.0)[2:5],
    "column": torch.arange(12.0).reshape(3, 4)[:, 1],
    "truth": torch.tensor([True, False]),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    path.write_bytes(serialise_tensors(TENSORS, {"name": "x"}))
    return path


def test_round_trip_and_same_bytes(file: Path) -> None:
    found = read_tensors(file)
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert file.read_bytes() == serialise_tensors(dict(reversed(TENSORS.items())), {"name": "x"})


def test_a_megabyte_is_written_in_less_than_a_second() -> None:
    start = time.process_time()
    serialise_tensors({"a": torch.zeros(250_000)}, {})
    assert time.process_time() - start < 1.0


def with_header(change: Any) -> bytes:
    content = serialise_tensors(TENSORS, {})
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 4) + b"[[[[",
        struct.pack("<Q", 2) + b"[]",
        serialise_tensors(TENSORS, {})[:-1],
        serialise_tensors(TENSORS, {}) + b"x",
        with_header(lambda header: header["b"].update(shape=[2, 4])),
        with_header(lambda header: header["b"].update(shape=[-2, -3])),
        with_header(lambda header: header["b"].update(dtype="F128")),
        with_header(lambda header: header.update(e={"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]})),
        with_header(lambda header: header["b"].update(data_offsets=[0, 24])),
        with_header(lambda header: header["b"].pop("shape")),
        with_header(lambda header: header.update(b=3)),
    ],
)
def test_damage_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_flipped_bytes_never_do_more_than_raise_value_error(tmp_path_factory: pytest.TempPathFactory, place: int, change: bytes) -> None:
    content = bytearray(serialise_tensors(TENSORS, {}))
    place = min(place, len(content) - len(change))
    content[place : place + len(change)] = change
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ValueError):
        read_tensors(path)


def test_other_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(serialise_tensors(torch.nn.Linear(3, 2).state_dict(), {}))
    load_weights(torch.nn.Linear(3, 2), path)
    with pytest.raises(ValueError, match="weight has shape"):
        load_weights(torch.nn.Linear(4, 2), path)
    with pytest.raises(ValueError, match="unknown tensor bias"):
        load_weights(torch.nn.Linear(3, 2, bias=False), path)


def test_the_source_of_the_packages_says_that_it_is_no_model() -> None:
    with pytest.raises(ValueError, match=r"is not an exported model, it has no manifest.json; install a wheel"):
        hear_ssl.model.load_model()
