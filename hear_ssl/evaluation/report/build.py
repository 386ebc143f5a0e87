"""One self-contained HTML page about a run and its scores.

hear-ssl report --scores OUT --module RUN --tasks TASKS --out report.html

It holds no address of another file: figures are inline SVG, sounds are inline WAV.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from hear_ssl.checkpoint import find_checkpoint, load_checkpoint
from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.foreign.known import built_python
from hear_ssl.evaluation.foreign.model import load_anywhere
from hear_ssl.evaluation.model_under_test import ModelUnderTest, is_ours, model_name
from hear_ssl.evaluation.protocol.embed import SPARE_AUDIO, task_rows
from hear_ssl.evaluation.protocol.score_task import LabelledRows
from hear_ssl.evaluation.report import figures
from hear_ssl.evaluation.report.page import figure, section, shown
from hear_ssl.evaluation.report.report_template import PAGE, SCRIPT, STYLE
from hear_ssl.evaluation.report.result import result_section, sentence
from hear_ssl.evaluation.report.score_table import faults_text, leaderboard_text, score_tables
from hear_ssl.evaluation.scores_file import check_key, check_python, check_scored, command_of, read_scores, scored_weights
from hear_ssl.evaluation.tasks.task_format import Task, audio_folder, find_tasks, read_clip, read_task
from hear_ssl.files import atomic_write, check_writable, read_metrics, read_rows

CLIPS_ON_MAP = 60
MOST_HOURS = 1e12  # of a data card; a larger integer is not a float
SOUND_SECONDS = 2.0
SIMILARITY_SECONDS = 10.0
CURVES = {
    "loss": "loss",
    "effective_rank": "effective rank of the embeddings",
    "similarity_negative": "mean cosine of negatives",
    "alignment": "distance of positives (squared)",
    "gradient_norm": "gradient norm",
    "clips_per_second": "throughput (clips/s)",
}


def sound(path: Path, sample_rate: int) -> str:
    """Return the first two seconds of a clip as a data URI."""
    waveform = read_clip(path, sample_rate)[: round(SOUND_SECONDS * sample_rate)]
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


def embedding_map(task: Task, rows: LabelledRows, folder: Path, sample_rate: int) -> str:
    """Return an SVG of clips by their embeddings in two dimensions, coloured by label; a tap near one or an arrow key plays it."""
    plane = figures.project(rows.embeddings.numpy())
    labels = rows.targets.argmax(1).tolist()
    marks = []
    heard = np.linspace(0, len(plane) - 1, min(CLIPS_ON_MAP, len(plane))).astype(int).tolist()
    for place in range(len(plane)):
        x, y = 320 + 300 * plane[place, 0], 220 - 200 * plane[place, 1]
        colour, name = figures.PALETTE[labels[place] % len(figures.PALETTE)], shown(task.labels[labels[place]])
        if place in heard:
            source = sound(folder / rows.clips[place][0], sample_rate)
            marks.append(
                f'<circle class=sound cx={x:.1f} cy={y:.1f} r=7 fill="{colour}" data-sound="{source}"><title>{name}</title></circle>'
            )
        else:
            marks.append(f'<circle cx={x:.1f} cy={y:.1f} r=3 fill="{colour}" opacity=0.5><title>{name}</title></circle>')
    key = " ".join(
        f'<span><i style="background:{figures.PALETTE[number % len(figures.PALETTE)]}"></i>{shown(label)}</span>'
        for number, label in enumerate(task.labels[:20])
    )
    key += " … and more" if len(task.labels) > 20 else ""
    hint = "<p class=key><b id=heard aria-live=polite>Tap a large dot to hear its clip, or press the left and right arrow keys</b></p>"
    head = '<svg class=map viewBox="0 0 640 440" tabindex=0 role=application aria-label="embedding map; the arrow keys play its clips">'
    return f"{head}{''.join(marks)}</svg>{hint}<p class=key>{key}</p>"


def clip_rows(rows: LabelledRows) -> LabelledRows:
    """Return one row per clip: for an event task the mean of its frames, and how many of them have each label."""
    places = [place for _, place in rows.clips]
    embeddings = torch.stack([rows.embeddings[place].mean(0) for place in places])
    targets = torch.stack([rows.targets[place].sum(0) for place in places])
    return LabelledRows(
        embeddings, targets, [(file, slice(row, row + 1)) for row, (file, _) in enumerate(rows.clips)], rows.timestamps_ms, {}
    )


def one_label(rows: LabelledRows) -> tuple[Any, Any]:
    """Return embeddings (clips, dim) and label numbers (clips,)."""
    return rows.embeddings.numpy(), rows.targets.argmax(1).numpy()


def task_sections(record: dict[str, Any], model: ModelUnderTest, folders: list[Path], cache: Path) -> list[str]:
    """Return map, similarity and confusion of the multiclass task with the lowest score; of another task, no confusion."""
    places = {folder.name: folder for folder in folders}
    scored = {name: found[model.name]["score"] for name, found in record["tasks"].items() if name in places and model.name in found}
    tasks = {name: read_task(places[name]) for name in scored}
    fitting = [name for name in scored if (tasks[name].embedding_type, tasks[name].prediction_type) == ("scene", "multiclass")]
    if not scored:
        return [section("Map of the embeddings", "None of the given tasks has a score of this model.", "")]
    task = tasks[min(fitting or scored, key=lambda name: scored[name])]
    rows = task_rows(task, model, cache)
    split = task.folds()[0]["test"][0]
    first = clip_rows(rows[split])
    folder = audio_folder(task, split, model.sample_rate, cache / SPARE_AUDIO)
    waveform = read_clip(folder / first.clips[0][0], model.sample_rate)[: round(SIMILARITY_SECONDS * model.sample_rate)]
    frames, times_ms = model.timestamps(torch.from_numpy(waveform).unsqueeze(0))
    log_mel = baselines.load_model().frontend(torch.from_numpy(waveform).unsqueeze(0))[0].numpy()
    hop_ms = float(times_ms[0].diff().mean()) if times_ms.shape[1] > 1 else 0.0
    similar = figures.spectrogram_and_similarity(log_mel, frames[0].numpy(), hop_ms, len(waveform) / model.sample_rate)
    name = shown(task.folder.name)
    return [
        section(
            "Map of the embeddings",
            f"A dot for each test clip of {name}, at {figures.projection(len(first.clips))} of its {task.embedding_type} embedding."
            " Near dots have similar embeddings. Large dots play their clip.",
            figure(embedding_map(task, first, folder, model.sample_rate), f"{len(first.clips)} clips; colours are labels"),
        ),
        section(
            "One clip over time",
            f"Above: the log-mel spectrogram, {SIMILARITY_SECONDS:g} s at most. Below: cosine similarity of timestamp embeddings.",
            figure(similar, f"{shown(first.clips[0][0])}, an embedding every {hop_ms:g} ms"),
        ),
        *(confusion_section(task, rows) if fitting else []),
    ]


def confusion_section(task: Task, rows: dict[str, LabelledRows]) -> list[str]:
    """Return the confusion of a multiclass task."""
    train, test = (LabelledRows.joined([rows[split] for split in task.folds()[0][role]]) for role in ("train", "test"))
    picture, accuracy = figures.confusion(one_label(train), one_label(test), list(task.labels))
    return [
        section(
            "Confusion matrix",
            f"{shown(task.folder.name)}, the multiclass task with the lowest score: true labels in rows, predictions in percent.",
            figure(f"<div class=scroll>{picture}</div>", f"Logistic regression on scene embeddings, first fold, accuracy {accuracy:.3f}."),
        ),
    ]


def number(value: Any) -> str:
    """Return a number of others with two digits; anything else as text of the page."""
    return f"{value:.2f}" if isinstance(value, (int, float)) and abs(value) < MOST_HOURS else shown(str(value)[:40])


def sources_of(card: Any) -> list[dict[str, Any]]:
    """Return the sources of a data card of others, as far as it has some."""
    sources = card.get("sources") if isinstance(card, dict) else None
    return [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []


def hours_of(source: dict[str, Any]) -> float:
    """Return the hours of a source; 0 where they are not a number."""
    hours = source.get("hours")
    return float(hours) if isinstance(hours, (int, float)) and abs(hours) < MOST_HOURS else 0.0


def data_card(card: dict[str, Any]) -> str:
    """Return hours by source and licence."""
    lines = [
        f"<tr><th>{shown(s.get('name'))}</th><td>{shown(s.get('license'))}</td><td>{number(s.get('hours'))}</td>"
        f"<td>{shown(s.get('clips'))}</td></tr>"
        for s in sorted(sources_of(card), key=lambda source: -hours_of(source))
    ]
    head = "<tr><th>source</th><th>licence</th><th>hours</th><th>clips</th></tr>"
    total = f"<p>{number(card.get('hours', 0.0))} hours, split {shown(card.get('split', '-'))}.</p>"
    return f"{total}<div class=scroll><table>{head}{''.join(lines)}</table></div>"


def probe_section(rows: list[dict[str, str]]) -> list[str]:
    """Return the curves of the probe; nothing without one."""
    names = [name for name in rows[-1] if name == "probe" or name.startswith("probe_")]
    scored = [row for row in rows if row.get("probe")]
    if not scored:
        return []
    best = max(scored, key=lambda row: float(row["probe"]))
    titles = {name: "probe, mean of the tasks" if name == "probe" else name.removeprefix("probe_").replace("_", " ") for name in names}
    caption = f"{len(scored)} probes, the best {float(best['probe']):.3f} at step {shown(best['step'])}: checkpoints/best.ckpt"
    text = "Scores of nearest neighbours (knn) and of a linear classifier on some validation clips of each task."
    return [section("Probe scores during training", text, figure(figures.curves(scored, titles), caption))]


def profile_section(run: Path) -> list[str]:
    """Return the table of profile.csv, which a run with profile=true leaves; nothing without one."""
    path = run / "profile.csv"
    if not path.is_file():
        return []
    columns, rows = read_rows(path)
    names = ("stage", "process", "ms_per_step", "share_of_step")
    if not set(names) <= set(columns):
        raise ValueError(f"{path} is damaged: it lacks columns; remove it, nothing else is lost")
    lines = [f"<tr><th>{shown(row['stage'])}</th>{''.join(f'<td>{shown(row[name])}</td>' for name in names[1:])}</tr>" for row in rows]
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    text = "From profile.csv. Worker processes read and decode while the model trains; data wait is the time that the model waits for them."
    return [section("Time of a training step", text, f"<div class=scroll><table><tr>{head}</tr>{''.join(lines)}</table></div>")]


def run_sections(run: Path) -> list[str]:
    """Return curves and data card of a run folder."""
    found = []
    metrics = run / "metrics.csv"
    if metrics.is_file():
        rows = read_metrics(metrics)[1]
        if rows:
            content = figure(figures.curves(rows, CURVES), f"{len(rows)} rows, up to step {shown(rows[-1]['step'])}")
            found.append(
                section(
                    "Training curves", "From metrics.csv of the run. An effective rank near 1 would mean collapsed embeddings.", content
                )
            )
            found += probe_section(rows)
    found += profile_section(run)
    checkpoint, origin = load_checkpoint(find_checkpoint(run)), "From the index of the shards, as the checkpoint records it."
    card, fitted = checkpoint.get("data_card"), checkpoint.get("fitted")
    found.append(section("Training data", origin, data_card(card if isinstance(card, dict) else {})))
    data = fitted.get("data") if isinstance(fitted, dict) else None
    return [*found, *([section("Data of the linear map", origin, data_card(data))] if isinstance(data, dict) else [])]


def build(scores: Path, module: str, tasks: Path | None, out: Path, weights: str = "", python: str = "") -> str:
    """Write the page; returns the sentence that it opens with.

    With tasks the model is loaded, a module with the interpreter `python` of its own environment.

    Raises ValueError when there are no scores, they are of other weights, module or tasks are not there, or `out` cannot be
    written.
    """
    record = read_scores(scores)
    weights = weights or scored_weights(record, module)
    name = model_name(module, weights)
    check_scored(record, name, weights)
    check_writable(out)
    parts = [
        result_section(record, name),
        section(
            "Scores and baselines",
            f"Command: <code>{shown(command_of(record, module, weights, str(tasks or 'TASKS'), scores))}</code>. Best scores are bold.",
            score_tables(record, name) + faults_text(record),
        ),
        section("Place among the published models", "Only tasks that were scored are compared.", leaderboard_text(record, name)),
    ]
    if is_ours(module):
        parts += run_sections(Path(module))
    if tasks is not None:
        check_python(record, name, python or built_python(module))
        model = load_anywhere(module, weights, python, scores / "embeddings")
        check_key(record, model)
        parts += task_sections(record, model, find_tasks(tasks), scores / "embeddings")
    title = f"Report on {shown(Path(module).resolve().name if is_ours(module) else name)}"
    atomic_write(out, PAGE.format(title=title, style=STYLE, script=SCRIPT, body="".join(parts)))
    return sentence(record, name)
