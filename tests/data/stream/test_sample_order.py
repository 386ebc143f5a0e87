"""The order of samples: a pure function of seed and position, whoever asks, in whatever sequence."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_ssl.data.stream.sample_order import MIX_BLOCK, MixedOrder, SampleOrder, hash_integers

GOLDEN_HASHES = [5700357409661599242, 4272310342533328455, 8961981182305341437]
GOLDEN_ORDERS = [[4, 6, 8, 5, 1, 9, 3, 2, 7, 0], [3, 6, 5, 1, 8, 0, 2, 4, 7, 9]]


def taken(order: SampleOrder, step: int, batch: int, rank: int = 0, ranks: int = 1) -> list[tuple[int, int]]:
    """Return (pass, clip) of one rank's rows of a step."""
    return [order.at(position)[:2] for position in order.batch(step, batch, rank, ranks)]


@given(st.integers(1, 200), st.integers(0, 2**31), st.sampled_from([(1, 4), (2, 4), (4, 8), (3, 9), (8, 16)]))
@settings(max_examples=50, deadline=None)
def test_every_clip_comes_once_a_pass_over_all_ranks(clips: int, seed: int, shape: tuple[int, int]) -> None:
    ranks, batch = shape
    order = SampleOrder([clips], seed)
    whole: list[tuple[int, int]] = []
    step = 0
    while len(whole) < 3 * clips:
        whole += [row for rank in range(ranks) for row in taken(order, step, batch, rank, ranks)]
        step += 1
    assert Counter(whole[: 3 * clips]) == {(number, clip): 1 for number in range(3) for clip in range(clips)}


@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 12])
def test_any_number_of_ranks_sees_the_same_global_order(ranks: int) -> None:
    for step in (0, 1, 7, 1000):  # 50 clips: batches of 12 span two passes
        parts = [taken(SampleOrder([50], 3), step, 12, rank, ranks) for rank in range(ranks)]
        assert {len(part) for part in parts} == {12 // ranks}
        assert [row for part in parts for row in part] == taken(SampleOrder([50], 3), step, 12)


def test_each_pass_and_each_seed_has_its_own_permutation() -> None:
    orders = [SampleOrder([100], seed).permutation(number).tolist() for seed in range(3) for number in range(6)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert all(one != other for one, other in combinations(orders, 2))


@given(st.lists(st.integers(0, 500), max_size=40))
@settings(max_examples=30, deadline=None)
def test_a_position_holds_the_same_clip_whatever_was_asked_before(positions: list[int]) -> None:
    order = SampleOrder([7], 5)  # 72 passes; the order keeps two of them
    for position in positions:
        assert order.at(position) == SampleOrder([7], 5).at(position)


def test_passes_follow_each_other_without_a_gap() -> None:
    order = SampleOrder([10], 0)
    assert [order.at(position)[0] for position in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]
    assert [order.at(position)[1] for position in range(10, 20)] == order.permutation(1).tolist()


def test_a_batch_mixes_shards_as_a_full_shuffle_does() -> None:
    shard_of = np.repeat(np.arange(32), 512)
    order, same = SampleOrder([len(shard_of)], 0), []
    for step in range(200):
        shards = shard_of[[clip for _, clip in taken(order, step, 64)]]
        same.append(((shards[:, None] == shards).sum() - 64) / (64 * 63))
    assert np.mean(same) == pytest.approx(1 / 32, rel=0.1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any), st.integers(1, 14), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_windows_hold_every_clip_once_a_pass_and_keep_to_their_shards(shard_clips: list[int], window: int, seed: int) -> None:
    order = SampleOrder(shard_clips, seed, window)
    shard_of = np.repeat(np.arange(len(shard_clips)), shard_clips)
    places = [order.at(position) for position in range(3 * order.clips)]
    assert Counter(place[:2] for place in places) == {(number, clip): 1 for number in range(3) for clip in range(order.clips)}
    for position, place in enumerate(places):
        assert len(place.window) <= window
        assert window >= len(shard_clips) or shard_of[place.clip] in place.window
        assert place == SampleOrder(shard_clips, seed, window).at(position)
        assert shard_of[order.substitute(position, hash_integers(seed, position))] in (place.window or range(len(shard_clips)))
    for position, later in zip(range(len(places)), places[1:], strict=False):
        if later.window != places[position].window:
            assert order.upcoming(position) == later.window


def test_a_window_of_all_shards_is_the_full_shuffle() -> None:
    for window in (3, 4):
        assert [SampleOrder([5, 2, 3], 0, window).at(n)[:2] for n in range(30)] == [SampleOrder([10], 0).at(n)[:2] for n in range(30)]


def test_windows_mix_their_shards_and_change_with_every_pass() -> None:
    order, shard_of = SampleOrder([512] * 32, 0, 8), np.repeat(np.arange(32), 512)
    same = []
    for step in range(256):
        shards = shard_of[[clip for _, clip in taken(order, step, 64)]]
        same.append(((shards[:, None] == shards).sum() - 64) / (64 * 63))
    assert np.mean(same) == pytest.approx(1 / 8, rel=0.1)
    windows = [[order.at(number * order.clips + place).window for place in range(0, order.clips, 4096)] for number in range(3)]
    assert sorted(shard for window in windows[0] for shard in window) == list(range(32))
    assert len({frozenset(window) for passing in windows for window in passing}) == 12


@pytest.mark.parametrize("window", [0, 2])
def test_a_mixture_keeps_its_weights_and_each_source_its_passes(window: int) -> None:
    sources, weights = [[30, 20, 50], [7, 6], [400]], [0.5, 0.3, 0.2]
    order = MixedOrder(sources, weights, 3, window)
    places = [order.at(position) for position in range(4 * MIX_BLOCK)]
    bounds = [range(0, 100), range(100, 113), range(113, 513)]
    for block in range(4):
        counts = [sum(place.clip in bound for place in places[block * MIX_BLOCK :][:MIX_BLOCK]) for bound in bounds]
        assert counts == [500, 300, 200]
    for bound in bounds:
        of_source = [place[:2] for place in places if place.clip in bound]
        passes = len(of_source) // len(bound)
        assert Counter(of_source[: passes * len(bound)]) == {(number, clip): 1 for number in range(passes) for clip in bound}
    assert places[777] == MixedOrder(sources, weights, 3, window).at(777)
    kinds = ["".join(str(sum(place.clip >= bound.start for bound in bounds)) for place in places[:64])]
    assert len(set(kinds[0])) == 3  # a batch holds all of them
    for position in range(200):
        number = order.substitute(position, hash_integers(position))
        assert any(number in bound and places[position].clip in bound for bound in bounds)


@pytest.mark.parametrize(("weights", "line"), [([1.0], "1 number for 2"), ([1.0, -1.0], "above 0"), ([1.0, 1e-5], "below a 1000th")])
def test_weights_that_do_not_fit_are_named(weights: list[float], line: str) -> None:
    with pytest.raises(ValueError, match=rf"data.weights .*{line}"):
        MixedOrder([[3], [4]], weights, 0)


def test_hashes_fill_63_bits_evenly_and_tell_their_arguments_apart() -> None:
    hashes = np.array([hash_integers(0, 4, number) for number in range(20000)])
    assert len(set(hashes.tolist())) == 20000
    assert hashes.min() >= 0
    shares = np.sort(hashes / 2**63)
    # Kolmogorov-Smirnov: a uniform sample of n stays within 1.95 / sqrt(n) with probability 0.999
    assert np.abs(shares - np.arange(20000) / 20000).max() < 1.95 / np.sqrt(20000)
    assert len({hash_integers(1, 2), hash_integers(2, 1), hash_integers(1, 2, 0), hash_integers(1), hash_integers(-1)}) == 5


def test_the_order_is_the_one_that_earlier_runs_resume_on() -> None:
    assert [hash_integers(), hash_integers(0), hash_integers(1, 2, 3)] == GOLDEN_HASHES
    assert [SampleOrder([10], 0).permutation(number).tolist() for number in (0, 1)] == GOLDEN_ORDERS


def test_no_clips_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^the shards hold no clips; pack some audio first$"):
        SampleOrder([0], 0)
