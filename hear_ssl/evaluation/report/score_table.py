"""Tables of the report: scores with their confidence, and the baselines, and places among the published models."""

from __future__ import annotations

import html
import math
import statistics
from pathlib import Path
from typing import Any

from hear_ssl.errors import printable
from hear_ssl.evaluation.model_under_test import BASELINES
from hear_ssl.evaluation.protocol.few_shot import by_protocol
from hear_ssl.evaluation.protocol.grid import FEW_SHOT
from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.report.leaderboard import standings
from hear_ssl.evaluation.run import in_mean

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % quantiles of t for 2 to 10 folds


def escaped(text: Any) -> str:
    """Return a text of others as text of the page."""
    return html.escape(printable(str(text)))


def confidence(result: dict[str, Any]) -> tuple[float, str]:
    """Return the half width of a score's 95 % interval over its folds (Student's t), else its standard deviation over seeds.

    With one fold an accuracy has that of a share of its test clips if that is wider, from the score to the farther end of Wilson's
    interval (Wilson, 1927), (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): the seeds of a predictor share
    these clips. Other scores of one fold and one seed have none: (0, "").
    """
    folds = sum(fold.get(result["primary"], 0.0) is not None for fold in result["folds"])
    if folds > 1:
        return STUDENT[min(folds - 2, len(STUDENT) - 1)] * result["deviation"][result["primary"]] / math.sqrt(folds), f"95 %, {folds} folds"
    spread = (result["seed_deviation"], "draws" if "protocols" in result else "seeds") if result["seed_deviation"] else (0.0, "")
    clips = result["folds"][0].get("test_clips", 0)
    if not SCORES[result["primary"]].accuracy or not clips:
        return spread
    share, square = result["score"], 1.96**2 / clips
    half = math.sqrt(share * (1.0 - share) * square + square**2 / 4.0)
    ends = [(share + square / 2.0 + sign * half) / (1.0 + square) for sign in (-1.0, 1.0)]
    return max(spread, (max(abs(end - share) for end in ends), f"95 %, {clips} clips"))


def score_tables(record: dict[str, Any], module: str) -> str:
    """Return the table of scores, or of the grid few-shot one for each of its protocols."""
    return "".join(
        f"<p>{escaped(title)}</p>{score_table(one, module)}" if title else score_table(one, module) for title, one in by_protocol(record)
    )


def score_table(record: dict[str, Any], module: str) -> str:
    """Return the table of primary scores with their confidence, the model first."""
    names = list(dict.fromkeys(name for kind in ("tasks", "faults") for found in record[kind].values() for name in found))
    names.sort(key=lambda name: (name != module, name in BASELINES, name))
    short = [Path(name).name for name in names]
    head = "".join(f"<th>{escaped(last if short.count(last) == 1 else name)}</th>" for last, name in zip(short, names, strict=True))
    lines = []
    for task, results in record["tasks"].items():
        primary = next((result["primary"] for result in results.values()), "")
        best = (max if not primary or SCORES[primary].maximize else min)((result["score"] for result in results.values()), default=0.0)
        cells = []
        for name in names:
            result = results.get(name)
            if result is None:
                cells.append(f"<td>{'failed' if name in record['faults'].get(task, {}) else '-'}</td>")
                continue
            half, kind = confidence(result)
            text = f"{result['score']:.3f}" + (f" ± {half:.3f}<br><small>{kind}</small>" if kind else "")
            cells.append(f"<td>{'<b>' + text + '</b>' if result['score'] == best else text}</td>")
        lines.append(f"<tr><th>{escaped(task)}<br><small>{escaped(primary)}</small></th>{''.join(cells)}</tr>")
    whole = [results for results in record["tasks"].values() if in_mean(results, names)]
    if whole:
        cells = [f"<td>{statistics.fmean(results[name]['score'] for results in whole):.3f}</td>" for name in names]
        lines.append(f"<tr><th>mean of {len(whole)}</th>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><tr><th>task</th>{head}</tr>{''.join(lines)}</table></div>"


def faults_text(record: dict[str, Any]) -> str:
    """Return why tasks have no score, a line each."""
    lines = [(task, name, reason) for task, faults in record["faults"].items() for name, reason in faults.items()]
    return "".join(f"<p><b>{escaped(task)}</b>, {escaped(name)}: {escaped(reason)}</p>" for task, name, reason in lines)


def leaderboard_text(record: dict[str, Any], module: str) -> str:
    """Return the model's places in the published leaderboard, or that no published task was run."""
    if record["grid"] == FEW_SHOT:
        return "<p>The published scores need <code>--grid official</code>; evaluate with it to compare.</p>"
    scores = {task: results[module]["score"] for task, results in record["tasks"].items() if module in results}
    found = standings(scores)
    if not found:
        return "<p>None of these tasks is one of the 19 official HEAR tasks.</p>"
    lines = [f"<tr><th>{s.column}</th><td>{s.score:.3f}</td><td>{s.rank} of {s.models}</td><td>{s.best:.3f}</td></tr>" for s in found]
    head = "<tr><th>task</th><th>this model</th><th>place</th><th>best published</th></tr>"
    return f"<div class=scroll><table>{head}{''.join(lines)}</table></div>"
