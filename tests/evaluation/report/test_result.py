"""The sentence and the chart that a report opens with: they say what the scores say, and no more where intervals overlap."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hear_ssl.evaluation.report.result import result_section, sentence

MODEL = "runs/mine"


def result(score: float, clips: int = 0, spread: float = 0.0, primary: str = "top1_acc") -> dict[str, Any]:
    """Return a result of one fold as scores.json has it."""
    fold = {primary: score, "test_clips": clips}
    return {"primary": primary, "score": score, "seed_deviation": spread, "deviation": {primary: 0.0}, "folds": [fold]}


def record(**tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a record of tasks."""
    return {"grid": "fast", "seeds": 1, "tasks": tasks, "faults": {}}


def row(mine: float, untrained: float, mel: float, **options: Any) -> dict[str, dict[str, Any]]:
    """Return the results of one task."""
    return {"log-mel": result(mel, **options), MODEL: result(mine, **options), "untrained": result(untrained, **options)}


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        (
            record(a=row(0.8, 0.5, 0.6, clips=1000), b=row(0.6, 0.5, 0.5, clips=1000)),
            "This model scores 0.700 on the mean of 2 tasks, 0.150 above log-mel and 0.200 above untrained;"
            " the intervals of this model and log-mel overlap on none of 2 tasks.",
        ),
        (
            record(a=row(0.8, 0.5, 0.6, clips=1000), b=row(0.52, 0.5, 0.5, clips=100)),
            "This model scores 0.660 on the mean of 2 tasks, 0.110 above log-mel and 0.160 above untrained;"
            " the intervals of this model and log-mel overlap on 1 of 2 tasks.",
        ),
        (
            record(a=row(0.5, 0.49, 0.51, clips=60), b=row(0.5, 0.5, 0.5, primary="event_onset_50ms_fms")),
            "This model scores 0.500 on the mean of 2 tasks, 0.005 below log-mel and 0.005 above untrained;"
            " the intervals of this model and log-mel overlap on the 1 task with intervals, so that difference may be chance.",
        ),
        (
            record(a=row(0.5, 0.5, 0.4, primary="mAP")),
            "This model scores 0.500 on a, level with untrained and 0.100 above log-mel;"
            " the scores have no intervals, so a small difference may be chance.",
        ),
        (
            record(a={MODEL: result(0.7, 1000), "log-mel": result(0.5, 1000)}),
            "This model scores 0.700 on a, 0.200 above log-mel; the intervals of this model and log-mel do not overlap.",
        ),
        (record(a={MODEL: result(0.5)}), "This model scores 0.500 on a; no other model was scored with it."),
        (
            record(a=row(0.5, 0.5, 0.4, primary="segment_1s_er")),
            "No task has a higher-is-better score of every model, so the models are compared task by task.",
        ),
        (record(a={"log-mel": result(0.5)}), "This model has no score: every task failed."),
    ],
)
def test_the_sentence_says_who_is_better_by_how_much_and_how_sure_that_is(tasks: dict[str, Any], text: str) -> None:
    assert sentence(tasks, MODEL) == text


def test_the_chart_has_every_score_and_error_rates_have_one_of_their_own() -> None:
    tasks = record(
        first=row(0.8, 0.5, 0.6, clips=100), second=row(0.7, 0.5, 0.6, spread=0.1), third=row(1.4, 1.2, 1.3, primary="segment_1s_er")
    )
    page = result_section(tasks, MODEL)
    assert page.count("<svg") == 2
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", page)
    assert [text for text in texts if text in ("mean of 2 tasks", "first", "second", "third")] == [
        "mean of 2 tasks",
        "first",
        "second",
        "third",
    ]
    shown = [" ".join(text.split()) for text in texts if "this model" in text or "untrained" in text or "log-mel" in text]
    assert shown == [
        f"{value} {name}"
        for value, name in (
            ("0.750", "this model"),
            ("0.600", "log-mel"),
            ("0.500", "untrained"),
            ("0.800", "this model"),
            ("0.600", "log-mel"),
            ("0.500", "untrained"),
            ("0.700", "this model"),
            ("0.600", "log-mel"),
            ("0.500", "untrained"),
            ("1.400", "this model"),
            ("1.300", "log-mel"),
            ("1.200", "untrained"),
        )
    ]
    assert "95 %, 100 clips; one standard deviation over seeds of the predictor" in page


def test_names_of_others_are_text_on_the_page() -> None:
    others = {"runs/<script>alert(1)</script>": result(0.4, clips=9), 'log-mel" onload="': result(0.4, clips=9)}
    page = result_section(record(**{"<b>task</b>": {MODEL: result(0.5, clips=9), **others}}), MODEL)
    assert "<script" not in page
    assert "<b>" not in page
    assert not re.search(r'<svg[^>]*onload="', page)
