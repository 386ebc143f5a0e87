"""Events and their scores equal scipy's filter and sed_eval's metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sed_eval
from dcase_util.containers import MetaDataContainer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from hear_ssl.evaluation.protocol.events import THRESHOLD, EventLists, active_frames, find_events, onset_f_measure, segment_error_rate

LABELS = ("a", "b", "c")
EVENT = st.tuples(st.sampled_from(LABELS), st.integers(0, 60), st.integers(1, 40)).map(
    lambda drawn: (drawn[0], drawn[1] * 25.0, drawn[1] * 25.0 + drawn[2] * 25.0)
)
FILES = st.lists(st.tuples(st.lists(EVENT, max_size=12), st.lists(EVENT, max_size=12)), min_size=1, max_size=3)


def container(lists: EventLists) -> MetaDataContainer:
    rows = [
        {"event_label": label, "event_onset": start / 1000.0, "event_offset": end / 1000.0, "file": file}
        for file, events in lists.items()
        for label, start, end in events
    ]
    return MetaDataContainer(rows)


def reference(metric: Any, predicted: EventLists, target: EventLists) -> dict[str, Any]:
    for file in predicted:
        metric.evaluate(container(target).filter(filename=file), container(predicted).filter(filename=file))
    overall: dict[str, Any] = metric.results_overall_metrics()
    return overall


def same(found: float, expected: float) -> None:
    assert math.isnan(found) if math.isnan(expected) else found == pytest.approx(expected, abs=1e-9)


@given(FILES, st.sampled_from([(200.0, None), (50.0, None), (50.0, 0.2)]))
@settings(max_examples=150, deadline=None)
def test_f_measure_equals_sed_eval(files: Any, condition: tuple[float, float | None]) -> None:
    predicted = {f"{number}.wav": pair[0] for number, pair in enumerate(files)}
    target = {f"{number}.wav": pair[1] for number, pair in enumerate(files)}
    collar_ms, share = condition
    options = {"t_collar": collar_ms / 1000.0, "evaluate_offset": share is not None, "percentage_of_length": share or 0.5}
    expected = reference(sed_eval.sound_event.EventBasedMetrics(list(LABELS), **options), predicted, target)
    same(onset_f_measure(predicted, target, collar_ms, share), expected["f_measure"]["f_measure"])


@given(FILES)
@settings(max_examples=100, deadline=None)
def test_error_rate_equals_sed_eval(files: Any) -> None:
    predicted = {f"{number}.wav": pair[0] for number, pair in enumerate(files)}
    target = {f"{number}.wav": pair[1] for number, pair in enumerate(files)}
    if not any(target.values()):
        assert math.isnan(segment_error_rate(predicted, target))
        return
    expected = reference(sed_eval.sound_event.SegmentBasedMetrics(list(LABELS), time_resolution=1.0), predicted, target)
    same(segment_error_rate(predicted, target), expected["error_rate"]["error_rate"])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_counting_frames_equals_the_median_filter(frames: int, size: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).uniform(size=(frames, 3)).astype(np.float32)
    expected = median_filter(probabilities, size=(size, 1)) > THRESHOLD
    assert np.array_equal(active_frames(probabilities, size), expected)


def test_a_run_of_frames_becomes_an_event_from_its_first_to_its_last_timestamp() -> None:
    probabilities = np.zeros((20, 3), np.float32)
    probabilities[4:9, 1] = 0.9
    probabilities[12:14, 1] = 0.9
    times = np.arange(20) * 40.0
    assert find_events(probabilities, times, LABELS, 0.0, 0.0) == [("b", 160.0, 320.0), ("b", 480.0, 520.0)]
    assert find_events(probabilities, times, LABELS, 0.0, 100.0) == [("b", 160.0, 320.0)]
    assert find_events(probabilities[:1], times[:1], LABELS, 250.0, 0.0) == []


def test_a_perfect_detector_scores_one_and_a_late_one_falls_out_of_the_collar() -> None:
    target: EventLists = {"x.wav": [("a", 100.0, 400.0), ("b", 500.0, 900.0)]}
    assert onset_f_measure(target, target, 50.0, 0.2) == 1.0
    late: EventLists = {"x.wav": [(label, start + 60.0, end) for label, start, end in target["x.wav"]]}
    assert onset_f_measure(late, target, 50.0) == 0.0
    assert onset_f_measure(late, target, 200.0) == 1.0


def test_a_postprocessing_that_leaves_something_out_has_the_kits_defaults() -> None:
    probabilities, times, labels = np.full((20, 1), 0.6), np.arange(20) * 20.0, ("a",)
    assert find_events(probabilities, times, labels, median_filter_ms=100) == [("a", 0.0, 380.0)]
    assert find_events(probabilities[:3], times[:3], labels) == []  # 40 ms, and the least is 60
    assert find_events(probabilities, times, labels, threshold=0.7) == []
