"""The stream gives the stored batches bit for bit: crops, seeds and keys, on any machine."""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.packing.shard_writer import EncodedClip, write_shards
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import INDEX_NAME, ShardIndex, SourceRecord, write_index
from hear_ssl.data.stream.batch import Batch
from hear_ssl.data.stream.batch_stream import BatchStream
from tests.data.reading import batches
from tests.data.sounds import encoded

SAMPLE_RATE = 16000
STEPS = 3
WAYS: dict[str, dict[str, Any]] = {  # how clips become batches: fields of DataConfig, and how many sources
    "two crops": {"sources": 1},
    "one crop": {"sources": 1, "count": 1},
    "pairs": {"sources": 1, "positives": "pairs"},
    "weights": {"sources": 2, "weights": [3.0, 1.0], "positives": "pairs"},
    "windows": {"sources": 1, "window_shards": 2},
    "weights and windows": {"sources": 2, "weights": [1.0, 2.0], "window_shards": 1},
}
GOLDEN: dict[str, str] = {
    "two crops": "4abae7964448b54e6c0ef975527e0f1a0265b13ca7356f3bae52f81dcc6c2351",
    "one crop": "acb4b897909664dc43ed5545aa289d1918764e6646b84c7c33a19851f2d8091a",
    "pairs": "01b61f79377747e7d5057e11915725aa9348f2c6ce843a1dd0f1a0d10a857ff1",
    "weights": "8c32063063fd6bb0d0a5a93309e43baa84e68f5aabce614701ab39291a8ba296",
    "windows": "b110f6899c3505cb2335eadead4ed6f4afe9adc450030994dac51d289bfed920",
    "weights and windows": "a58c2544795ab0c9b8e4813f05583d6aff6fd69178fe107ef3a8d5a09fe4ada7",
}
GOLDEN_FILES: dict[str, str] = {
    "train-000000.tar": "a5594039fee8a1908d84a527540e9b18c2161172fa900a16429c53e96b53fd46",
    "train-000001.tar": "cc9042bfa43f971ec80331c1ef7b7b11520a2a20e47e6078bbf9d2865852efa6",
    "train-000002.tar": "f627924c3c9fa13329439fc73bda6f9fb7c5b94a92498aadeeb369184c7ac008",
    "train-000003.tar": "c36f8fce2c06f1026a3853ab81df6f3324e7db2754fa9c7681e5ae7342754895",
    "index.json": "e5953650f1c05dbd46b6c018f376e6b145b5c509de4feafb2609785c8d06d6af",
}


def noise(number: int) -> NDArray[np.int16]:
    """Return a clip (time,) of integer noise; clips differ in length, and every sixth is shorter than a crop."""
    sample = np.arange(3000 if number % 6 == 5 else 9000 + 701 * number, dtype=np.int64)
    return ((sample * sample * 40503 + sample * (7919 + 2 * number)) % 65536 - 32768).astype(np.int16)


def wav(samples: NDArray[np.int16]) -> bytes:
    """Return a WAV file as the standard library writes it, whose bytes depend on no decoder's version."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", ""))
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def write_source(folder: Path, name: str, codec: str, first: int) -> Path:
    """Write 14 clips in shards of four and their index; pairs are neighbours, and the last two clips have no partner."""
    clips = []
    for number in range(14):
        samples = noise(first + number)
        pair = {"pair": f"{name}{number ^ 1}"} if number < 12 else {}
        content = wav(samples) if codec == "wav" else encoded(samples, SAMPLE_RATE, "FLAC", "PCM_16")
        clips.append(EncodedClip(f"{name}{number}", codec, content, {"seconds": len(samples) / SAMPLE_RATE, "source": name, **pair}))
    folder.mkdir()
    shards = write_shards(folder, "train", clips, len(clips), 4)
    hours = sum(shard.seconds for shard in shards) / 3600.0
    source = SourceRecord(name, "CC0-1.0", hours, len(clips))
    write_index(folder, ShardIndex(SAMPLE_RATE, codec, "train", hours, len(clips), shards, (source,), {}))
    return folder


def write_sources(folder: Path, codec: str) -> list[Path]:
    """Write two sources and return their folders."""
    return [write_source(folder / name, name, codec, first) for name, first in (("first", 0), ("second", 40))]


@pytest.fixture(scope="module", params=["flac", "wav"])
def sources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both codecs hold the same samples, so the batches are the same."""
    return write_sources(tmp_path_factory.mktemp("golden"), request.param)


def stream(sources: list[Path], way: str, rank: int = 0, ranks: int = 1) -> BatchStream:
    options = {"batch_size": 6, "crops": [CropConfig(0.25, WAYS[way].get("count", 2))], "workers": 0, **WAYS[way]}
    options.pop("count", None)
    shards = [str(source) for source in sources[: options.pop("sources")]]
    return BatchStream(ShardSet(shards), DataConfig(shards=shards, **options), SAMPLE_RATE, 5, rank, ranks)


def digest(read: Iterable[Batch]) -> str:
    """Return the SHA-256 of batches: of crops (float32), seeds (int64) and keys, one after the other."""
    found = hashlib.sha256()
    for batch in read:
        assert not batch.lost
        assert (batch.waveform.dtype, batch.seeds.dtype) == (torch.float32, torch.int64)
        found.update(batch.waveform.numpy().astype("<f4").tobytes())
        found.update(batch.seeds.numpy().astype("<i8").tobytes())
        found.update("\n".join(batch.keys).encode())
    return found.hexdigest()


def joined(parts: Iterable[Batch]) -> Batch:
    """Return the batch whose rows are those of its parts, in their order."""
    rows = list(parts)
    waveform, seeds = (torch.cat([getattr(part, name) for part in rows]) for name in ("waveform", "seeds"))
    return Batch([waveform], seeds, [key for part in rows for key in part.keys], [loss for part in rows for loss in part.lost])


@pytest.mark.parametrize("way", WAYS)
def test_the_batches_are_the_golden_ones(sources: list[Path], way: str) -> None:
    assert digest(batches(stream(sources, way), STEPS)) == GOLDEN[way]


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_of_two_ranks_are_those_of_the_golden_batches(sources: list[Path], way: str) -> None:
    ranks = [batches(stream(sources, way, rank, 2), STEPS) for rank in range(2)]
    assert digest(map(joined, zip(*ranks, strict=True))) == GOLDEN[way]


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every shard and the index of a folder."""
    files = [*sorted(folder.glob("*.tar")), folder / INDEX_NAME]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_shards_and_their_index_are_the_golden_ones(tmp_path: Path) -> None:
    assert file_digests(write_source(tmp_path / "first", "first", "wav", 0)) == GOLDEN_FILES


if __name__ == "__main__":  # python -m tests.data.stream.test_golden_batches prints the golden digests
    import json
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        written = write_sources(Path(scratch), "wav")
        print("GOLDEN =", json.dumps({way: digest(batches(stream(written, way), STEPS)) for way in WAYS}, indent=4))
        print("GOLDEN_FILES =", json.dumps(file_digests(written[0]), indent=4))
