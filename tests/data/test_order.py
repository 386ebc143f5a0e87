"""The order of samples: a pure function of seed and position, whoever asks, in whatever sequence."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_ssl.data.order import SampleOrder, mix

GOLDEN_HASHES = [5700357409661599242, 4272310342533328455, 8961981182305341437]
GOLDEN_ORDERS = [[4, 6, 8, 5, 1, 9, 3, 2, 7, 0], [3, 6, 5, 1, 8, 0, 2, 4, 7, 9]]


@given(st.integers(1, 200), st.integers(0, 2**31), st.sampled_from([(1, 4), (2, 4), (4, 8), (3, 9), (8, 16)]))
@settings(max_examples=50, deadline=None)
def test_every_clip_comes_once_a_pass_over_all_ranks(clips: int, seed: int, shape: tuple[int, int]) -> None:
    ranks, batch = shape
    order = SampleOrder(clips, seed)
    whole: list[tuple[int, int]] = []
    step = 0
    while len(whole) < 3 * clips:
        whole += [row for rank in range(ranks) for row in order.batch(step, batch, rank, ranks)]
        step += 1
    assert Counter(whole[: 3 * clips]) == {(number, clip): 1 for number in range(3) for clip in range(clips)}


@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 12])
def test_any_number_of_ranks_sees_the_same_global_order(ranks: int) -> None:
    for step in (0, 1, 7, 1000):  # 50 clips: batches of 12 span two passes
        parts = [SampleOrder(50, 3).batch(step, 12, rank, ranks) for rank in range(ranks)]
        assert {len(part) for part in parts} == {12 // ranks}
        assert [row for part in parts for row in part] == SampleOrder(50, 3).batch(step, 12)


def test_each_pass_and_each_seed_has_its_own_permutation() -> None:
    orders = [SampleOrder(100, seed).permutation(number).tolist() for seed in range(3) for number in range(6)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert all(one != other for one, other in combinations(orders, 2))


@given(st.lists(st.integers(0, 500), max_size=40))
@settings(max_examples=30, deadline=None)
def test_a_position_holds_the_same_clip_whatever_was_asked_before(positions: list[int]) -> None:
    order = SampleOrder(7, 5)  # 72 passes; the order keeps two of them
    for position in positions:
        assert order.at(position) == SampleOrder(7, 5).at(position)


def test_passes_follow_each_other_without_a_gap() -> None:
    order = SampleOrder(10, 0)
    assert [order.at(position)[0] for position in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]
    assert [order.at(position)[1] for position in range(10, 20)] == order.permutation(1).tolist()


def test_a_batch_mixes_shards_as_a_full_shuffle_does() -> None:
    shard_of = np.repeat(np.arange(32), 512)
    order, same = SampleOrder(len(shard_of), 0), []
    for step in range(200):
        shards = shard_of[[clip for _, clip in order.batch(step, 64)]]
        same.append(((shards[:, None] == shards).sum() - 64) / (64 * 63))
    assert np.mean(same) == pytest.approx(1 / 32, rel=0.1)


def test_hashes_fill_63_bits_evenly_and_tell_their_arguments_apart() -> None:
    hashes = np.array([mix(0, 4, number) for number in range(20000)])
    assert len(set(hashes.tolist())) == 20000
    assert hashes.min() >= 0
    shares = np.sort(hashes / 2**63)
    # Kolmogorov-Smirnov: a uniform sample of n stays within 1.95 / sqrt(n) with probability 0.999
    assert np.abs(shares - np.arange(20000) / 20000).max() < 1.95 / np.sqrt(20000)
    assert len({mix(1, 2), mix(2, 1), mix(1, 2, 0), mix(1), mix(-1)}) == 5


def test_the_order_is_the_one_that_earlier_runs_resume_on() -> None:
    assert [mix(), mix(0), mix(1, 2, 3)] == GOLDEN_HASHES
    assert [SampleOrder(10, 0).permutation(number).tolist() for number in (0, 1)] == GOLDEN_ORDERS


def test_no_clips_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^the shards hold no clips; pack some audio first$"):
        SampleOrder(0, 0)
