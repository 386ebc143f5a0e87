"""The report is one page that needs no network, draws every figure and says no number that was not measured."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import soundfile
import torch

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest, load_model_under_test
from hear_ssl.evaluation.report.__main__ import main
from hear_ssl.evaluation.report.build import build
from hear_ssl.evaluation.report.leaderboard import column_of, standings
from hear_ssl.evaluation.report.score_table import confidence, score_table
from hear_ssl.evaluation.run import evaluate, models_to_compare
from hear_ssl.evaluation.scores_file import command_of
from hear_ssl.evaluation.tasks.task_format import find_tasks
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.trainer import fit
from tests.conftest import tiny
from tests.evaluation.test_current import weighted as weighted
from tests.evaluation.test_evaluate import make_event, make_scene


@pytest.fixture(scope="module")
def page(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, score and report on a tiny task."""
    folder = tmp_path_factory.mktemp("report")
    make_scene(folder / "tasks" / "esc50-v2.0.0-full")
    make_scene(folder / "tasks" / "folds", folds=True)
    fit(
        tiny(shards, folder / "run", "profile=true", "probe.every=2", f"probe.tasks={folder / 'tasks' / 'esc50-v2.0.0-full'}"), resume=False
    )
    subjects = models_to_compare(str(folder / "run"), "", [])
    evaluate(subjects, find_tasks(folder / "tasks"), folder / "scores", "fast", 1, show=False)
    build(folder / "scores", str(folder / "run"), folder / "tasks", folder / "report.html")
    return folder / "report.html"


@pytest.mark.slow
def test_every_figure_is_drawn_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text()
    figures = re.findall(r"<figure>(.*?)</figure>", text, re.DOTALL)
    assert len(figures) == 6
    assert all("<svg" in figure and ("<path" in figure or "<circle" in figure) for figure in figures)
    outside = {address for address in re.findall(r"(?:https?:)?//[\w.-]+", text) if "w3.org" not in address and "purl.org" not in address}
    assert not [address for address in outside if re.search(rf'(?:src|href)="{re.escape(address)}', text)]
    assert "data:audio/wav;base64," in text
    assert 'name=viewport content="width=device-width' in text


def test_curves_of_loss_and_probe_and_what_the_issue_names_are_there(page: Path) -> None:
    text = page.read_text()
    for words in (
        "loss",
        "probe, mean of the tasks",
        "esc50-v2.0.0-full linear",
        "throughput (clips/s)",
        "Time of a training step",
        "<tr><th>backward</th><td>training</td>",
        "checkpoints/best.ckpt",
        "licence",
    ):
        assert words in text, words
    rows = [row for row in read_metrics(page.parent / "run" / "metrics.csv")[1] if row["probe"]]
    assert f"{len(rows)} probes, the best {max(float(row['probe']) for row in rows):.3f} at step" in text


def test_the_command_on_the_page_makes_the_same_scores() -> None:
    record = {"grid": "fast", "seeds": 2, "tasks": {"esc50": {name: {} for name in ("ours", "other", "untrained", "log-mel")}}}
    command = "hear-ssl evaluate --module ours --compare other --tasks TASKS --out scores --grid fast --seeds 2"
    assert command_of(record, "ours", "", "TASKS", Path("scores")) == command
    record["tasks"] = {"esc50": {name: {} for name in ("ours (a.pt)", "ours (b.pt)", "log-mel")}}
    command = "hear-ssl evaluate --module ours --weights w/a.pt --tasks TASKS --out scores --grid fast --seeds 2"
    assert command_of(record, "ours", "w/a.pt", "TASKS", Path("scores")) == command


def test_a_slash_at_the_end_of_a_run_changes_nothing(page: Path, tmp_path: Path) -> None:
    build(page.parent / "scores", f"{page.parent / 'run'}/", None, tmp_path / "report.html")
    assert re.search(r"<th>ESC-50</th><td>[\d.]+</td><td>\d+ of \d+</td>", (tmp_path / "report.html").read_text())


def test_the_page_opens_with_the_sentence_that_the_command_prints(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["--scores", str(page.parent / "scores"), "--module", str(page.parent / "run"), "--out", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"This model scores [01]\.\d{3} on the mean of 2 tasks, 0\.\d{3} (above|below) (log-mel|untrained)", last)
    opening = re.search(r"</h1><section class=opening><p class=result>(.*?)</p><figure>", out.read_text())
    assert opening
    assert html.unescape(opening.group(1)) == last


def test_scores_of_other_weights_are_refused(page: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    module = baselines.__name__
    with pytest.raises(ValueError, match=rf"no scores of {module} \(a.pt\); there are .*untrained, log-mel"):
        build(page.parent / "scores", module, None, tmp_path / "report.html", "w/a.pt")
    make_scene(tmp_path / "scene")
    record = evaluate([load_model_under_test(module)], [tmp_path / "scene"], scores, "fast", 1, show=False)
    record["tasks"]["scene"][module]["key"] = "another"
    (scores / "scores.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="are of other weights than it has now, or of an earlier version"):
        build(scores, module, tmp_path / "scene", tmp_path / "report.html")


def test_the_weights_of_the_scores_are_found_and_asked_for_when_they_are_gone(weighted: Path, tmp_path: Path) -> None:
    module, out, report = "hear_weighted", tmp_path / "out", tmp_path / "report.html"
    make_scene(tmp_path / "scene")

    def scored(*files: Path) -> None:
        evaluate([load_model_under_test(module, str(file)) for file in files], [tmp_path / "scene"], out, "fast", 1, show=False)

    good, better = tmp_path / "good.pt", tmp_path / "better.pt"
    torch.save(torch.tensor(2.0), good)
    scored(good)
    build(out, module, tmp_path / "scene", report)
    assert f"--module {module} --weights {good}" in report.read_text()
    good.rename(better)
    with pytest.raises(ValueError, match=r"are of .*good.pt, which is not there; put it back, or give the file with --weights FILE"):
        build(out, module, None, report)
    torch.save(torch.tensor(3.0), good)
    with pytest.raises(ValueError, match=r"are of other weights than .*good.pt has now; evaluate again, or give the file"):
        build(out, module, None, report)
    scored(good, better)
    with pytest.raises(ValueError, match=r"scores of hear_weighted with .*good.pt and with .*better.pt; choose with --weights FILE"):
        build(out, module, None, report)
    build(out, module, None, report, str(better))


def test_a_run_that_went_on_has_other_weights_than_its_scores(page: Path, tmp_path: Path) -> None:
    record = json.loads((page.parent / "scores" / "scores.json").read_text())
    for results in record["tasks"].values():
        results[str(page.parent / "run")]["weights"]["sha256"] = "0" * 64
    (tmp_path / "scores.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"are of other weights than .*last.ckpt has now; evaluate again$"):
        build(tmp_path, str(page.parent / "run"), None, tmp_path / "report.html")


def test_confidence_is_students_over_folds(page: Path) -> None:
    record = json.loads((page.parent / "scores" / "scores.json").read_text())
    result = record["tasks"]["folds"]["log-mel"]
    values = [fold["top1_acc"] for fold in result["folds"]]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values)) if np.ptp(values) else (values[0],) * 2
    assert confidence(result) == (pytest.approx((high - low) / 2, rel=1e-3), "95 %, 3 folds")
    assert "95 %, 3 folds</small>" in page.read_text()
    spread = {"primary": "mAP", "deviation": {"mAP": 0.1}, "folds": [{}] * 5, "seed_deviation": 0.0}
    assert confidence(spread)[0] == pytest.approx(scipy.stats.t.ppf(0.975, 4) * 0.1 / 5**0.5, rel=1e-3)
    assert confidence(spread | {"folds": [{}], "seed_deviation": 0.02}) == (0.02, "seeds")
    assert confidence(spread | {"folds": [{"test_clips": 100}]}) == (0.0, "")
    accuracy = spread | {"primary": "top1_acc", "score": 0.8, "folds": [{"test_clips": 100}]}
    low = scipy.stats.binomtest(80, 100).proportion_ci(0.95, "wilson").low
    assert confidence(accuracy) == (pytest.approx(0.8 - low, rel=1e-3), "95 %, 100 clips")
    assert confidence(accuracy | {"score": 1.0})[0] > 0.03


def test_two_checkpoints_of_one_file_name_have_a_column_head_each() -> None:
    result = {"primary": "mAP", "score": 0.5, "seed_deviation": 0.0, "folds": [{"mAP": 0.5}]}
    page = score_table({"tasks": {"clips": dict.fromkeys(("a/last.ckpt", "b/last.ckpt", "runs/c"), result)}, "faults": {}}, "a/last.ckpt")
    assert "<th>a/last.ckpt</th><th>b/last.ckpt</th><th>c</th>" in page


def test_the_place_among_the_published_models_is_that_of_the_table(page: Path) -> None:
    assert re.search(r"<th>ESC-50</th><td>[\d.]+</td><td>\d+ of \d+</td>", page.read_text())
    best = standings({"esc50-v2.0.0-full": 1.0, "mine": 0.5})
    assert [(s.rank, s.column) for s in best] == [(1, "ESC-50")]
    assert standings({"esc50-v2.0.0-full": 0.0})[0].rank == standings({"esc50-v2.0.0-full": 0.0})[0].models
    assert column_of("tfds_gtzan_music_speech-1.0.0-full") == "GTZAN Music/Speech"
    assert column_of("nsynth_pitch-v2.2.3-50h") == "NSynth Pitch 50h"
    assert column_of("nsynth_pitch-v2.2.3-5h") == "NSynth Pitch 5h"
    assert column_of("dev_drum_events") is None
    assert column_of("esc50-mine") is None


BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
SEEN = """<script>
const told = [];
window.addEventListener('error', event => told.push(event.message));
window.addEventListener('unhandledrejection', event => told.push(String(event.reason)));
window.addEventListener('load', () => {
  const figures = [...document.querySelectorAll('figure svg')];
  const drawn = figure => [...figure.querySelectorAll('path, circle, image')].filter(part => part.getBoundingClientRect().width > 1);
  const empty = figures.filter(figure => figure.getBoundingClientRect().height < 80 || drawn(figure).length < 2);
  const small = [...document.querySelectorAll('figure svg text')].filter(text => text.getBoundingClientRect().height < 5);
  const map = document.querySelector('.map'), sounds = [...document.querySelectorAll('.sound')];
  const centres = sounds.map(mark => mark.getBoundingClientRect()).map(box => [box.x + box.width / 2, box.y + box.height / 2]);
  const frame = map.getBoundingClientRect(), places = [];
  for (let x = frame.x; x < frame.right; x += 5) for (let y = frame.y; y < frame.bottom; y += 5) {
    const near = centres.map(([cx, cy], number) => [Math.hypot(cx - x, cy - y), number]).sort((one, other) => one[0] - other[0]);
    places.push({x, y, away: near[0][0], mark: sounds[near[0][1]], alone: near[1][0] - near[0][0]});
  }
  const tap = place => map.dispatchEvent(new PointerEvent('click', {clientX: place.x, clientY: place.y, bubbles: true}));
  const playing = () => [...document.querySelectorAll('.playing')];
  const near = places.filter(place => place.away > 18 && place.away < 23 && place.alone > 1);
  const hits = place => { tap(place); return playing().length == 1 && playing()[0] == place.mark; };
  const taps = near.filter((place, number) => number % 10 == 0).map(hits);
  const before = playing()[0];
  tap(places.find(place => place.away > 25));
  const far = playing()[0] == before;
  map.focus();
  const keys = sounds.map(() => {
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
    return playing()[0];
  });
  const result = {taps, far, keys: new Set(keys).size, sounds: sounds.length,
    figures: figures.length, empty: empty.length, small: small.length, told, window: innerWidth,
    width: document.documentElement.scrollWidth, heads: [...document.querySelectorAll('th')].map(head => head.offsetHeight / 24),
    colours: COLOURS,
    playing: document.querySelectorAll('.playing').length, sound: player.src, heard: document.querySelector('#heard').textContent};
  parent.postMessage(JSON.stringify(result), '*');
});
</script>"""
COLOURS = """(() => {
  const light = colour => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
  const texts = [...document.querySelectorAll('.result, td, th, figcaption, .opening svg text, .panels svg text')];
  const lines = [...document.querySelectorAll('.opening svg path')].filter(part => part.style.stroke == 'currentcolor');
  const written = texts.map(one => getComputedStyle(one)[one.closest('svg') ? 'fill' : 'color']);
  const inks = [...written, ...lines.map(one => getComputedStyle(one).stroke)];
  const card = light(getComputedStyle(document.querySelector('section')).backgroundColor);
  return {page: light(getComputedStyle(document.body).backgroundColor), card, lines: lines.length,
    contrast: Math.min(...inks.map(ink => Math.abs(light(ink) - card)))};
})()"""
SEEN = SEEN.replace("COLOURS", COLOURS)
FRAME = """<!doctype html><link rel=icon href="data:,"><body style="margin:0"><iframe src=probed.html width=WIDTH height=800></iframe>
<script>window.addEventListener('message', event => { document.title = event.data; });</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the PATH (Debian: apt install chromium)")
@pytest.mark.parametrize(("width", "dark"), [(360, False), (400, True), (1200, False)])
def test_a_browser_draws_every_figure_on_a_phone_and_on_a_desk(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    """A frame as wide as the screen shows the page; the page's own scripts run; taps near a dot and arrow keys play its sound."""
    assert BROWSER is not None
    (tmp_path / "probed.html").write_text(page.read_text().replace("</head>", SEEN + "</head>"))
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    options += [
        "--autoplay-policy=no-user-gesture-required",
        "--virtual-time-budget=20000",
        "--window-size=1300,900",
        "--dump-dom",
        *scheme(dark),
    ]
    result = subprocess.run([BROWSER, *options, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert not [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title, result.stderr[-1000:]
    seen = json.loads(html.unescape(title.group(1)))
    assert seen["window"] == width
    assert seen["width"] <= width  # no scrolling sideways
    assert seen["figures"] == len(re.findall(r"<svg", page.read_text()))
    assert (seen["empty"], seen["small"], seen["told"]) == (0, 0, [])
    check_colours(seen["colours"], dark)
    assert max(seen["heads"]) < 5  # lines: no name is broken into single letters
    waveform, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(seen["sound"].removeprefix("data:audio/wav;base64,"))))
    assert (len(waveform) / sample_rate, seen["playing"]) == (0.5, 1)
    assert len(seen["taps"]) > 5
    assert all(seen["taps"])  # about 20 pixels beside a dot, the nearest one plays
    assert seen["far"]  # further away nothing does
    assert seen["keys"] == seen["sounds"] == 24  # the arrow keys come to every one
    assert seen["heard"] in ("high", "low", "mid")


def scheme(dark: bool) -> list[str]:
    """Return the option with which a browser prefers dark or light pages."""
    return [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]


def check_colours(colours: dict[str, float], dark: bool) -> None:
    """Check that a page follows the preferred scheme, and that text and axes, measured by COLOURS, stand out from it."""
    assert (colours["page"] < 0.2, colours["card"] < 0.2) == (dark, dark)
    assert colours["lines"] > 0
    assert colours["contrast"] > 0.35


def test_a_task_that_failed_stands_on_the_page_with_its_fault(tmp_path: Path) -> None:
    for name in ("broken", "whole"):
        make_scene(tmp_path / "tasks" / name)
    (tmp_path / "tasks" / "broken" / "labelvocabulary.csv").unlink()
    module, scores = baselines.__name__, tmp_path / "scores"
    evaluate([load_model_under_test(module)], find_tasks(tmp_path / "tasks"), scores, "fast", 1, show=False)
    build(scores, module, tmp_path / "tasks", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "labelvocabulary.csv is missing" in text
    assert "<th>broken<br><small></small></th><td>failed</td>" in text
    assert "Confusion matrix" in text
    build(scores, module, None, tmp_path / "report.html")
    record = json.loads((scores / "scores.json").read_text())
    (scores / "scores.json").write_text(json.dumps(record | {"faults": {"broken module": "as earlier versions wrote it"}}))
    with pytest.raises(ValueError, match=r"scores.json is of another version; make it again"):
        build(scores, module, None, tmp_path / "report.html")


MULTILABEL = partial(make_scene, multilabel=True, evaluation=["mAP"])


@pytest.mark.parametrize("make", [pytest.param(make_event, marks=pytest.mark.slow), MULTILABEL])
def test_a_task_that_is_not_multiclass_has_a_map_and_no_confusion(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path / "task")
    module, scores = baselines.__name__, tmp_path / "scores"
    evaluate([load_model_under_test(module)], [tmp_path / "task"], scores, "fast", 1, show=False)
    build(scores, module, tmp_path / "task", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<figure>") == 3
    assert "Confusion matrix" not in text


def test_a_report_without_scores_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no scores.json; make one with hear-ssl evaluate"):
        build(tmp_path, "run", None, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("out", "reason"), [("file/out", "Not a directory"), ("file", "Not a directory"), ("folder", "Is a directory")])
def test_what_cannot_be_written_is_one_line_before_anything_is_computed(page: Path, tmp_path: Path, out: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "scores.json").mkdir(parents=True)
    subject = ModelUnderTest("never asked", "never", None, None)
    with pytest.raises(ValueError, match=f"scores.json cannot be written: {reason}; give another --out"):
        evaluate([subject], find_tasks(page.parent / "tasks"), tmp_path / out, "fast", 1, show=False)
    with pytest.raises(ValueError, match=f"scores.json cannot be written: {reason}; give another --out"):
        build(page.parent / "scores", str(page.parent / "run"), None, tmp_path / out / "scores.json")
