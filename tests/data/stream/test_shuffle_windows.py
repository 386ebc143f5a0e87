"""The order of shards without an index: every clip once a pass, bounded windows, and a state from which the rest follows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hear_ssl.data.stream.shuffle_windows import SAMPLE_BYTES, Drawn, WindowReader
from hear_ssl.data.stream.tar_samples import Sample

SIZE = 1000 - SAMPLE_BYTES


def shards_of(counts: list[int]) -> Callable[[int], Iterator[Sample]]:
    """Return a function that yields the samples of a shard, each of 1,000 bytes as a window counts them."""

    def read(shard: int) -> Iterator[Sample]:
        for clip in range(counts[shard]):
            yield Sample(f"{shard}-{clip}", bytes(SIZE))

    return read


def reader(counts: list[int], number: int = 0, readers: int = 1, interleave: int = 32, clips: int = 50, seed: int = 0) -> WindowReader:
    return WindowReader(len(counts), shards_of(counts), seed, number, readers, interleave, 1000 * clips)


def drawn(source: WindowReader, count: int) -> list[Drawn]:
    return [source.draw() for _ in range(count)]


@pytest.mark.parametrize("readers", [1, 2, 3, 7])
@pytest.mark.parametrize("counts", [[10] * 8, [5, 1, 0, 30, 17], [40], [3, 3]])
def test_readers_together_draw_every_clip_once_a_pass(readers: int, counts: list[int]) -> None:
    passes: dict[int, Counter[tuple[int, int]]] = {}
    for number in range(readers):
        source = reader(counts, number, readers, interleave=3, clips=7)
        for item in drawn(source, 4 * sum(counts)):
            passes.setdefault(item.pass_number, Counter())[item.shard, item.place] += 1
            assert item.sample.key == f"{item.shard}-{item.place}"
    every = {(shard, place) for shard, count in enumerate(counts) for place in range(count)}
    for number in range(3):
        assert set(passes[number]) == every
        assert set(passes[number].values()) == {1}


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    source = reader([50] * 4)
    first, second = ([item.sample.key for item in drawn(source, 200)] for _ in range(2))
    assert sorted(first) == sorted(second)
    assert first != second
    assert [item.sample.key for item in drawn(reader([50] * 4, seed=1), 200)] != first


@pytest.mark.parametrize("taken", [0, 1, 49, 50, 51, 163, 400, 977])
@pytest.mark.parametrize("number", [0, 1])
def test_a_state_restores_what_is_drawn_next(taken: int, number: int) -> None:
    counts = [30, 41, 2, 77, 13]
    source = reader(counts, number, 2, interleave=2, clips=20)
    drawn(source, taken)
    state = json.loads(json.dumps(source.state()))
    expected = drawn(source, 300)
    resumed = reader(counts, number, 2, interleave=2, clips=20)
    resumed.load(state)
    assert resumed.state() == source_state(counts, number, taken)
    assert drawn(resumed, 300) == expected


def source_state(counts: list[int], number: int, taken: int) -> dict[str, object]:
    source = reader(counts, number, 2, interleave=2, clips=20)
    drawn(source, taken)
    return source.state()


def test_two_windows_at_most_are_held_and_few_shards_are_open() -> None:
    held: list[int] = []
    open_now: set[int] = set()
    most_open = 0

    def read(shard: int) -> Iterator[Sample]:
        nonlocal most_open
        open_now.add(shard)
        most_open = max(most_open, len(open_now))
        for clip in range(40):
            held.append(1)
            yield Sample(f"{shard}-{clip}", bytes(SIZE))
        open_now.discard(shard)

    source = WindowReader(20, read, 0, 0, 1, 4, 50 * 1000)
    for count in range(1, 801):
        source.draw()
        if source.coming:
            source.coming.thread.join()
        assert len(held) - count <= 2 * 50
    assert most_open <= 4 + 4  # those of the last pass's end and of the next one's start


def test_samples_without_audio_fill_a_window_too() -> None:
    read = [0]

    def endless(shard: int) -> Iterator[Sample]:
        while True:
            read[0] += 1
            yield Sample("a", b"", "has no audio")

    source = WindowReader(1, endless, 0, 0, 1, 4, 100 * SAMPLE_BYTES)
    source.draw()
    assert source.coming
    source.coming.thread.join()
    assert read[0] <= 201


def test_shards_without_clips_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"hold no clips; see data\.shards"):
        reader([0, 0, 0]).draw()


def test_what_reading_raises_is_raised_by_drawing() -> None:
    def read(shard: int) -> Iterator[Sample]:
        yield Sample("a", b"x")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        drawn(WindowReader(2, read, 0, 0, 1, 2, 10**6), 2)


@pytest.mark.parametrize("kilobytes", [20, 75, 300, 1000])
@pytest.mark.parametrize("readers", [1, 2, 4])
def test_pairs_of_one_shard_are_as_rare_in_a_batch_as_at_random(readers: int, kilobytes: int) -> None:
    """32 shards of 500 clips, from 2 s of speech to 10 s of music, with the default buffer of 256 MB; batches of 64, one pass."""
    counts, clips = [500] * 32, round(256e6 / 2 / (1000 * kilobytes) / readers)
    sources = [reader(counts, number, readers, 32 // readers, clips) for number in range(readers)]
    pairs = same = 0
    for _ in range(16_000 // 64):
        shards = np.bincount([item.shard for source in sources for item in drawn(source, 64 // readers)])
        pairs += 64 * 63 // 2
        same += int((shards * (shards - 1) // 2).sum())
    random = 499 / (32 * 500 - 1)
    assert abs(same / pairs / random - 1) < 0.1
