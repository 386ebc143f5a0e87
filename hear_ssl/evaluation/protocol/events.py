"""Events from frame probabilities, and the scores of event lists that sed_eval computes for the HEAR benchmark.

Postprocessing follows heareval 2021.1.3. The scores are the overall (micro) scores of Mesaros et al., Metrics for Polyphonic Sound
Event Detection (2016), with the optimal matching of sed_eval. Events of a clip are (label, start, end) in ms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_ssl.evaluation.tasks.task_parameters import EVENTS

Event = tuple[str, float, float]
EventLists = dict[str, list[Event]]
THRESHOLD = EVENTS["threshold"]


def active_frames(probabilities: NDArray[Any], size: int, threshold: float = THRESHOLD) -> NDArray[np.bool_]:
    """Return which frames (frames, labels) are above the threshold after a median filter of `size` frames over time.

    The median exceeds the threshold exactly when enough frames of the window do, so counting replaces sorting. Windows and edges are
    those of scipy.ndimage.median_filter: reflection at the edge, and the upper median for an even size.
    """
    above = probabilities > threshold
    if size <= 1:
        return above
    frames, before = len(above), size // 2
    padded = np.pad(above.astype(np.int32), ((before, size - 1 - before), (0, 0)), mode="symmetric")
    total = np.concatenate([np.zeros((1, above.shape[1]), np.int32), padded.cumsum(0)])
    return np.asarray(total[size : size + frames] - total[:frames] >= size - before)


def find_events(
    probabilities: NDArray[Any],
    timestamps_ms: NDArray[Any],
    labels: tuple[str, ...],
    median_filter_ms: float = EVENTS["median_filter_ms"],
    min_duration: float = EVENTS["min_duration"],
    threshold: float = THRESHOLD,
) -> list[Event]:
    """Return the runs of active frames of every label, from (frames, labels), that last at least `min_duration` ms."""
    hop_ms = float(np.mean(np.diff(timestamps_ms))) if len(timestamps_ms) > 1 else math.inf
    active = active_frames(probabilities, round(median_filter_ms / hop_ms) if median_filter_ms else 0, threshold)
    edges = np.diff(np.pad(active.astype(np.int8), ((1, 1), (0, 0))), axis=0)  # (frames + 1, labels)
    events = []
    for label in np.flatnonzero(active.any(0)):
        starts, ends = np.flatnonzero(edges[:, label] == 1), np.flatnonzero(edges[:, label] == -1) - 1
        for start, end in zip(timestamps_ms[starts], timestamps_ms[ends], strict=True):
            if end - start >= min_duration:
                events.append((labels[label], float(start), float(end)))
    return events


def onset_f_measure(predicted: EventLists, target: EventLists, collar_ms: float, offset_share: float | None = None) -> float:
    """Return the F-measure of events with the right label whose onset is within the collar; NaN without any event.

    With offset_share, the offset must be within the collar or that share of the target's length, whichever is larger.
    """
    correct = found = wanted = 0
    for file in predicted:
        by_label: dict[str, tuple[list[Event], list[Event]]] = defaultdict(lambda: ([], []))
        for event in predicted[file]:
            by_label[event[0]][0].append(event)
        for event in target.get(file, []):
            by_label[event[0]][1].append(event)
        for predictions, targets in by_label.values():
            found, wanted = found + len(predictions), wanted + len(targets)
            correct += matched(predictions, targets, collar_ms, offset_share)
    if not found or not wanted:
        return math.nan
    precision, recall = correct / found, correct / wanted
    return 0.0 if not correct else 2.0 * precision * recall / (precision + recall)


def matched(predictions: list[Event], targets: list[Event], collar_ms: float, offset_share: float | None) -> int:
    """Return the size of the largest one-to-one matching of events of one label (Kuhn's augmenting paths)."""
    collar = collar_ms / 1000.0  # in seconds, as in sed_eval, so that events exactly at the collar are treated alike

    def fits(prediction: Event, target: Event) -> bool:
        if abs(target[1] / 1000.0 - prediction[1] / 1000.0) > collar:
            return False
        if offset_share is None:
            return True
        length = target[2] / 1000.0 - target[1] / 1000.0
        return abs(target[2] / 1000.0 - prediction[2] / 1000.0) <= max(collar, offset_share * length)

    targets = sorted(targets, key=lambda event: event[1])
    onsets = np.array([event[1] for event in targets])
    partner: dict[int, int] = {}
    candidates = []
    for prediction in predictions:
        first, last = np.searchsorted(onsets, [prediction[1] - collar_ms - 1e-3, prediction[1] + collar_ms + 1e-3])
        candidates.append([place for place in range(first, last) if fits(prediction, targets[place])])

    def augment(prediction: int, seen: set[int]) -> bool:
        for place in candidates[prediction]:
            if place not in seen:
                seen.add(place)
                if place not in partner or augment(partner[place], seen):
                    partner[place] = prediction
                    return True
        return False

    return sum(augment(prediction, set()) for prediction in range(len(predictions)))


def segment_error_rate(predicted: EventLists, target: EventLists, segment_ms: float = 1000.0) -> float:
    """Return (substitutions + deletions + insertions) / active target labels over segments of one second; NaN without targets."""
    errors = wanted = 0.0
    for file, events in predicted.items():
        pair = events, target.get(file, [])
        labels = sorted({event[0] for events in pair for event in events})
        length = max([math.ceil(event[2] / segment_ms) for events in pair for event in events], default=0)
        rolls = np.zeros((2, length, len(labels)), bool)
        for roll, events in zip(rolls, pair, strict=True):
            for label, start, end in events:
                first, last = math.floor(start / segment_ms), math.ceil(end / segment_ms)
                roll[first:last, labels.index(label)] = True
        missed = (rolls[1] & ~rolls[0]).sum(1)
        extra = (rolls[0] & ~rolls[1]).sum(1)
        errors += float(np.maximum(missed, extra).sum())  # S + D + I of one segment
        wanted += float(rolls[1].sum())
    return errors / wanted if wanted else math.nan
