"""Write rendered pairs as WebDataset shards: the two clips of a pair are neighbours, and the record of each names the other's key."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import soundfile
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.shard_writer import EncodedClip, check_free, write_rendered
from hear_ssl.data.shards.shard_index import INDEX_NAME, ShardIndex
from hear_ssl.synthesis.parameter_space import Array

MOST_CLIPS = 10_000_000
Job = TypeVar("Job")


@dataclass(frozen=True)
class Origin:
    """What the record of every clip of a corpus contains: name of the source, licence, split."""

    source: str
    license: str
    split: str = "train"


@dataclass(frozen=True)
class Format:
    """How clips are stored: sample rate in Hz and codec, flac or wav (16 bits)."""

    sample_rate: int
    codec: str = "flac"


def encode_pair(name: str, waveforms: tuple[Array, Array], audio: Format, origin: Origin) -> list[EncodedClip]:
    """Encode two waveforms (time,) as the clips NAMEa and NAMEb, each with the key of the other in its record."""
    keys, clips = [f"{name}{member}" for member in "ab"], []
    for key, other, waveform in zip(keys, reversed(keys), waveforms, strict=True):
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform, audio.sample_rate, format=audio.codec.upper(), subtype="PCM_16")
        record = {
            **asdict(origin),
            "original_sample_rate": audio.sample_rate,
            "original_channels": 1,
            "offset_seconds": 0.0,
            "seconds": len(waveform) / audio.sample_rate,
            "pair": other,
        }
        clips.append(EncodedClip(key, audio.codec, buffer.getvalue(), record))
    return clips


def check_clips(clips: int) -> None:
    """Raise ValueError unless `clips` clips make pairs."""
    if not 2 <= clips <= MOST_CLIPS or clips % 2:
        raise ValueError(f"{clips} clips cannot be rendered: clips come in pairs, so give an even number from 2 to {MOST_CLIPS}")


def check_run(seed: int, workers: int) -> None:
    """Raise ValueError on a negative seed or a number of processes out of range."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; give 0 or more")
    if not 1 <= workers <= 1024:
        raise ValueError(f"{workers} workers cannot render; give 1 to 1024")


def check_request(folder: Path, clips: int, seed: int, workers: int) -> None:
    """Raise ValueError on a number out of range, FileExistsError when the folder holds shards."""
    check_clips(clips)
    check_run(seed, workers)
    check_free(folder)


def render_in_order(render: Callable[[Job], list[EncodedClip]], jobs: Iterable[Job], workers: int) -> Iterator[EncodedClip]:
    """Yield the clips of every job in order, rendered by `workers` processes; one is this process."""
    yield from chain.from_iterable(map(render, jobs) if workers == 1 else in_order(render, jobs, workers))


def write_pairs(folder: Path, clips: Iterable[EncodedClip], count: int, audio: Format, origin: Origin, progress: bool) -> Path:
    """Write `count` clips as shards and then their index; returns the path of the index.

    A file has its final name only when it is complete, the index last. Raises OSError when the disk is full.
    """
    with tqdm(clips, total=count, unit="clip", desc="rendering", disable=not progress) as bar:
        write_rendered(folder, bar, count, audio.sample_rate, audio.codec, origin.split, origin.source, origin.license)
    return folder / INDEX_NAME


def describe(index: ShardIndex, folder: Path) -> str:
    """Return one line with the clips, hours and shards that were written."""
    return f"{index.size()} in {folder}"
