"""The ten scores of the HEAR benchmark by their names in task_metadata.json.

Scene scores compare probabilities with multi-hot targets, both (clips, labels); event scores compare lists of events
(see events.py). Definitions follow heareval 2021.1.3: macro averages over labels, d' = sqrt(2) * ppf(AUC) averaged over
labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_ssl.evaluation.protocol.events import EventLists, onset_f_measure, segment_error_rate

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """A score and its properties.

    events: it compares events. maximize: higher is better. finite: it has a best value. accuracy: it is a share of clips.
    both_kinds: it needs clips with and clips without every label.
    """

    compute: Callable[[Any, Any], float]
    events: bool = False
    maximize: bool = True
    finite: bool = True
    accuracy: bool = False
    both_kinds: bool = False

    @property
    def best(self) -> float:
        """The best possible value: 1, or 0 for error rates."""
        return (1.0 if self.maximize else 0.0) if self.finite else math.inf


def top1_accuracy(predictions: Array, targets: Array) -> float:
    """Return the share of clips whose most probable label is correct."""
    return float((predictions.argmax(1) == targets.argmax(1)).mean())


def chroma_accuracy(predictions: Array, targets: Array) -> float:
    """Return the share of clips whose pitch class (label index modulo 12) is correct, ignoring octave errors."""
    return float((predictions.argmax(1) % 12 == targets.argmax(1) % 12).mean())


def mean_average_precision(predictions: Array, targets: Array) -> float:
    """Return the average precision, macro-averaged over labels."""
    return float(average_precision_score(targets, predictions, average="macro"))


def roc_areas(predictions: Array, targets: Array) -> Array:
    """Return the area under the ROC curve of every label (labels,); NaN when a label has only one kind of target."""
    if (targets.all(0) | ~targets.any(0)).any():
        return np.full(targets.shape[1], np.nan)
    return np.atleast_1d(np.asarray(roc_auc_score(targets, predictions, average=None)))


def area_under_roc(predictions: Array, targets: Array) -> float:
    """Return the area under the ROC curve, macro-averaged over labels; NaN when a label has only one kind of target."""
    return float(roc_areas(predictions, targets).mean())


def d_prime(predictions: Array, targets: Array) -> float:
    """Return sqrt(2) times the normal quantile of each label's ROC area, averaged over labels.

    An area of 1 is reduced, and an area of 0 increased, by half a pair of clips (Macmillan and Kaplan, 1985); there the d' of the kit is
    infinite.
    """
    areas = torch.from_numpy(roc_areas(predictions, targets)).double()
    positives = torch.from_numpy(np.asarray(targets.sum(0))).double()
    half = 0.5 / (positives * (len(targets) - positives))  # of a pair
    return float(torch.special.ndtri(torch.minimum(torch.maximum(areas, half), 1.0 - half)).mean() * math.sqrt(2.0))


def _onset(collar_ms: float, offset_share: float | None = None) -> Callable[[EventLists, EventLists], float]:
    return lambda predicted, target: onset_f_measure(predicted, target, collar_ms, offset_share)


SCORES = {
    "top1_acc": Score(top1_accuracy, accuracy=True),
    "pitch_acc": Score(top1_accuracy, accuracy=True),
    "chroma_acc": Score(chroma_accuracy, accuracy=True),
    "mAP": Score(mean_average_precision),
    "d_prime": Score(d_prime, finite=False, both_kinds=True),
    "aucroc": Score(area_under_roc, both_kinds=True),
    "event_onset_200ms_fms": Score(_onset(200.0), events=True),
    "event_onset_50ms_fms": Score(_onset(50.0), events=True),
    "event_onset_offset_50ms_20perc_fms": Score(_onset(50.0, 0.2), events=True),
    "segment_1s_er": Score(lambda predicted, target: segment_error_rate(predicted, target), events=True, maximize=False),
}
