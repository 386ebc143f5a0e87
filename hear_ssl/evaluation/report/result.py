"""What a page opens with: who is better by how much, in one sentence, and a chart of every score with its interval."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from hear_ssl.evaluation.model_under_test import BASELINES
from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.report.chart import Value, interval_chart
from hear_ssl.evaluation.report.figures import model_colours
from hear_ssl.evaluation.report.page import figure, opening, shown
from hear_ssl.evaluation.report.score_table import confidence
from hear_ssl.evaluation.run import in_mean
from hear_ssl.progress import counted

INTERVALS = {kind: f"one standard deviation over {what}" for kind, what in (("seeds", "seeds of the predictor"), ("draws", "draws"))}
THIS = "this model"
NAMED = 3  # models that the sentence compares with


def model_names(record: dict[str, Any], module: str) -> list[str]:
    """Return the models of a record by the order of the tables: the one of the report, others, baselines."""
    names = list(dict.fromkeys(name for kind in ("tasks", "faults") for found in record[kind].values() for name in found))
    return sorted(names, key=lambda name: (name != module, name in BASELINES, name))


def scored_names(record: dict[str, Any], module: str) -> list[str]:
    """Return those of them that have a score."""
    return [name for name in model_names(record, module) if any(name in results for results in record["tasks"].values())]


def short_names(names: list[str], module: str) -> dict[str, str]:
    """Return how models are called: the one of the report "this model", others by the end of their path where that is theirs alone."""
    last = [Path(name).name for name in names]
    short = {name: one if last.count(one) == 1 else name for name, one in zip(names, last, strict=True)}
    return short | {module: THIS}


def sentence(record: dict[str, Any], module: str) -> str:
    """Return in one sentence the mean score of a model, its distance from the others, and whether their intervals overlap."""
    names = scored_names(record, module)
    whole = {task: results for task, results in record["tasks"].items() if in_mean(results, names)}
    called = short_names(names, module)
    if module not in names:
        return "This model has no score: every task failed."
    if not whole:
        return "No task has a higher-is-better score of every model, so the models are compared task by task."
    means = {name: statistics.fmean(results[name]["score"] for results in whole.values()) for name in names}
    where = f"on the mean of {len(whole)} tasks" if len(whole) > 1 else f"on {next(iter(whole))}"
    others = sorted(names[1:], key=lambda name: -means[name])
    start = f"This model scores {means[module]:.3f} {where}"
    if not others:
        return f"{start}; no other model was scored with it."
    gaps = [distance(means[module] - means[name], called[name]) for name in others[:NAMED]]
    listed = gaps[0] if len(gaps) == 1 else f"{', '.join(gaps[:-1])} and {gaps[-1]}"
    return f"{start}, {listed}; {certainty(whole, module, others[0], called)}."


def distance(gap: float, other: str) -> str:
    """Return how far a score lies from that of another model, in words."""
    return f"level with {other}" if round(gap, 3) == 0 else f"{abs(gap):.3f} {'above' if gap > 0 else 'below'} {other}"


def certainty(tasks: dict[str, dict[str, Any]], module: str, other: str, called: dict[str, str]) -> str:
    """Return on how many tasks the intervals of two models overlap, and what follows when they do everywhere."""
    known = [results for results in tasks.values() if confidence(results[module])[1] and confidence(results[other])[1]]
    if not known:
        return "the scores have no intervals, so a small difference may be chance"
    overlapping = sum(overlap(results[module], results[other]) for results in known)
    pair = f"the intervals of {called[module]} and {called[other]}"
    if len(tasks) == 1:
        return f"{pair} overlap, so that difference may be chance" if overlapping else f"{pair} do not overlap"
    some = " with intervals" if len(known) < len(tasks) else ""
    if overlapping == len(known):
        every = {1: "the 1 task", 2: "both tasks"}.get(overlapping, f"all {overlapping} tasks")
        return f"{pair} overlap on {every}{some}, so that difference may be chance"
    return f"{pair} overlap on {overlapping or 'none'} of {counted(len(known), 'task')}{some}"


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether the intervals of two scores overlap."""
    return abs(float(one["score"]) - float(other["score"])) <= confidence(one)[0] + confidence(other)[0]


def result_section(record: dict[str, Any], module: str) -> str:
    """Return the first section of the report: the sentence, and a chart for each scale of scores."""
    text, names = sentence(record, module), scored_names(record, module)
    called = short_names(names, module)
    colours = model_colours([called[name] for name in names], [called[name] for name in names if name in BASELINES])
    scales: dict[str, list[tuple[str, list[Value]]]] = {}
    kinds: dict[str, None] = {}
    for task, results in record["tasks"].items():
        scored = [name for name in names if name in results]
        for name in scored[:1]:
            scales.setdefault(scale_of(results[name]["primary"]), []).append(
                (task, [Value(called[name], results[name]["score"], confidence(results[name])[0]) for name in scored])
            )
        kinds |= dict.fromkeys(kind for name in scored if (kind := confidence(results[name])[1]))
    charts = [
        interval_chart(mean_group(record, names, called, label) + groups, label, colours, text, (0.0, 1.0) if label == BOUNDED else None)
        for label, groups in scales.items()
    ]
    kept = "; ".join(INTERVALS.get(kind, kind) for kind in kinds)
    caption = f"A dot is a score, a line its interval ({shown(kept)})." if kinds else "A dot is a score."
    return opening(shown(text), figure("".join(charts), caption) if charts else "")


BOUNDED = "score, 0 to 1, higher is better"


def scale_of(primary: str) -> str:
    """Return what the axis of a score shows: higher-is-better scores from 0 to 1 share one."""
    score = SCORES[primary]
    return BOUNDED if score.finite and score.maximize else f"{primary}, {'higher' if score.maximize else 'lower'} is better"


def mean_group(record: dict[str, Any], names: list[str], called: dict[str, str], label: str) -> list[tuple[str, list[Value]]]:
    """Return the mean of several tasks as the first group of the chart of scores from 0 to 1; an interval when each task has one."""
    whole = [results for results in record["tasks"].values() if in_mean(results, names)]
    if label != BOUNDED or len(whole) < 2 or any(scale_of(results[names[0]]["primary"]) != BOUNDED for results in whole):
        return []

    def mean(name: str) -> Value:
        found = [confidence(results[name]) for results in whole]
        half = math.hypot(*(half for half, _ in found)) / len(found) if all(kind for _, kind in found) else 0.0
        return Value(called[name], statistics.fmean(results[name]["score"] for results in whole), half)

    return [(f"mean of {len(whole)} tasks", [mean(name) for name in names])]
