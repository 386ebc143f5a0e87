"""The registry of runs on real run folders: states, lists, comparisons, the best run, CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hear_ssl.evaluation.report.figures import PALETTE
from hear_ssl.folder_lock import FolderBusyError, folder_lock, is_held
from hear_ssl.runs.__main__ import main
from hear_ssl.runs.compare import Group, evaluated, grouped, measure_rows, read_records
from hear_ssl.runs.listing import best_run, best_weights, list_lines
from hear_ssl.runs.run_folder import Run, differing_keys, find_runs, read_run
from hear_ssl.runs.state import STALE_SECONDS, RunState, read_state
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two temperatures, the first with two seeds, and a run that fails; return their folder."""
    runs = tmp_path_factory.mktemp("registry") / "runs"
    for name, temperature, seed in (("warm-0", 0.5, 0), ("warm-1", 0.5, 1), ("cold", 0.1, 0)):
        fit(tiny(shards, runs / "sweep" / name, f"objective.nt_xent.temperature={temperature}", f"seed={seed}"), resume=False)
    with pytest.raises(ValueError, match="collapsed"):
        fit(tiny(shards, runs / "collapsed", "trainer.collapse_rank=1000"), resume=False)
    return runs


def named(folder: Path) -> dict[str, Run]:
    return {run.path.name: run for run in find_runs([folder])}


def with_rows(run: Path, to: Path, **columns: list[str]) -> Run:
    """Return a copy of a run folder whose metrics.csv has more columns."""
    shutil.copytree(run, to)
    rows = list(csv.DictReader((to / "metrics.csv").read_text().splitlines()))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], *columns])
    writer.writeheader()
    writer.writerows({**row, **{name: values[place] for name, values in columns.items()}} for place, row in enumerate(rows))
    (to / "metrics.csv").write_text(text.getvalue())
    return read_run(to)


def test_runs_are_found_with_state_steps_and_rate(folder: Path) -> None:
    runs = named(folder)
    assert {name: run.state.state for name, run in runs.items()} == {
        "warm-0": "done",
        "warm-1": "done",
        "cold": "done",
        "collapsed": "failed",
    }
    assert list(runs) == ["warm-0", "warm-1", "cold", "collapsed"]  # as they were started
    assert "the embeddings collapsed: effective rank" in runs["collapsed"].state.reason
    assert (runs["cold"].step, runs["cold"].steps, runs["collapsed"].step) == (6, 6, 3)
    rates = sorted(float(row["clips_per_second"]) for row in runs["cold"].rows[1:])
    assert runs["cold"].usual("clips_per_second") == rates[2]
    assert runs["cold"].hours * 3600 == pytest.approx(float(runs["cold"].rows[-1]["seconds"]))
    assert runs["cold"].state.ended >= runs["cold"].state.started > time.time() - 3600
    assert not [problem for run in runs.values() for problem in run.problems]


def test_the_list_names_states_and_the_keys_that_differ(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "state", "step"]
    (cold,) = [line for line in lines if line.startswith(str(folder / "sweep" / "cold"))]
    assert "  done   " in cold
    assert "  6/6  " in cold
    assert {"seed=0", "trainer.collapse_rank=0.0", "objective.nt_xent.temperature=0.1"} <= set(cold.split())
    assert lines[-1].startswith(f"{folder / 'collapsed'}: failed: the embeddings collapsed")
    assert "name=" not in cold


def test_a_narrow_terminal_has_the_differing_keys_below_each_run(folder: Path) -> None:
    runs = find_runs([folder])
    wide, narrow = list_lines(runs), list_lines(runs, width=80)
    assert list_lines(runs, width=1000) == wide
    assert all(len(line) <= 80 for line in narrow if line.startswith("    "))
    assert sorted(" ".join(narrow).split()) == sorted(" ".join(wide).split())
    keys = next(number for number, line in enumerate(narrow) if line.startswith(str(folder / "sweep" / "cold"))) + 1
    assert narrow[keys].startswith("    seed=0")


def test_a_half_written_row_and_a_damaged_file_do_not_hide_the_other_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(folder / "sweep", runs)
    with open(runs / "warm-0" / "metrics.csv", "a") as file:
        file.write("7,1.5")
    (runs / "warm-1" / "metrics.csv").write_bytes(b"step,loss\nx,\xff\n1,2\n")
    (runs / "cold" / "config.yaml").write_text("a: [")
    (runs / "cold" / "state.json").write_text('{"state": "asleep"}')
    main([str(runs)])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 + 3 + 1
    assert " 6/6 " in next(line for line in printed.out.splitlines() if "warm-0" in line)
    damaged = sorted(line.split(" is damaged")[0] for line in printed.err.splitlines())
    assert damaged == sorted(str(runs / name) for name in ("warm-1/metrics.csv", "cold/config.yaml", "cold/state.json"))


def test_a_run_whose_process_holds_its_folder_is_running_and_without_one_stale(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "sweep" / "cold", run)
    assert read_state(run).state == "done"
    record = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps(record | {"state": "running", "ended": 0}))
    assert (is_held(run), read_state(run).state) == (False, "stale")
    assert read_state(run).reason == f"its process {os.getpid()} has ended"
    with folder_lock(run, ""):
        assert (is_held(run), read_state(run).state) == (True, "running")
    (run / "state.json").write_text(json.dumps(record | {"state": "running", "host": "elsewhere"}))
    assert read_state(run).state == "running"  # by its heartbeat: locks of another machine may not be seen
    late = time.time() - STALE_SECONDS - 1
    os.utime(run / "state.json", (late, late))
    assert (read_state(run).state, read_state(run).reason) == ("stale", "no heartbeat for 2 min")
    (run / "state.json").unlink()
    assert read_state(run).state == "stale"
    assert is_held(tmp_path / "missing") is None


def test_looking_at_a_folder_hinders_no_run_that_begins_in_it(tmp_path: Path) -> None:
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_held(tmp_path)

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(10):
            with folder_lock(tmp_path, "", wait_seconds=20.0), pytest.raises(FolderBusyError), folder_lock(tmp_path, ""):
                pass
    finally:
        ended.set()
        for watcher in watchers:
            watcher.join()


def test_runs_that_differ_in_their_seed_are_a_group(folder: Path) -> None:
    runs = find_runs([folder / "sweep"])
    assert differing_keys(runs) == ["seed", "objective.nt_xent.temperature"]
    groups = grouped(runs)
    assert [(group.name, [run.path.name for run in group.runs]) for group in groups] == [
        ("temperature=0.5", ["warm-0", "warm-1"]),
        ("temperature=0.1", ["cold"]),
    ]
    cells = {name: values for name, *values in measure_rows(groups)}
    first, second = (float(run.rows[-1]["loss"]) for run in groups[0].runs)
    mean, deviation = (first + second) / 2, abs(first - second) / 2**0.5
    assert cells["loss, last"] == [f"{mean:.4f} ± {deviation:.4f} (2)", f"{float(groups[1].runs[0].rows[-1]['loss']):.4f}"]


def test_the_best_run_is_that_of_the_highest_probe_at_any_step(folder: Path, tmp_path: Path) -> None:
    sweep = folder / "sweep"
    low = with_rows(sweep / "cold", tmp_path / "low", probe=["", "", "0.2", "", "", "0.3"])
    high = with_rows(sweep / "warm-0", tmp_path / "high", probe=["", "", "0.6", "", "", "0.1"])
    assert best_run([low, high, read_run(sweep / "warm-1")]) == (high, 3, 0.6)
    assert best_run([low, high], "loss", lowest=True)[2] == min(float(row["loss"]) for run in (low, high) for row in run.rows)
    assert best_weights(high, 3, "loss") == high.path / "checkpoints" / "step-00000003.ckpt"
    assert best_weights(high, 3, "probe") == high.path  # it has no best.ckpt
    other = Run(low.path, low.state, {**low.config, "probe.tasks": "[other]"}, low.rows)
    with pytest.raises(ValueError, match=r"differ in probe.tasks, so that their probe cannot be compared"):
        best_run([other, high])
    with pytest.raises(ValueError, match=r"no run has the column prob in metrics.csv \(did you mean 'probe'\?\); there are step"):
        best_run([low, high], "prob")


def test_scores_of_an_evaluation_belong_to_the_run_whose_weights_they_are_of(tmp_path: Path) -> None:
    def result(score: float, place: Path) -> dict[str, object]:
        return {"primary": "mAP", "score": score, "weights": {"place": str(place)}}

    run = Run(tmp_path / "a", RunState("done"))
    tasks = {
        "esc": {
            "best": result(0.4, tmp_path / "a" / "checkpoints" / "best.ckpt"),
            "last": result(0.5, tmp_path / "a" / "checkpoints" / "last.ckpt"),
            "ab": result(0.9, tmp_path / "ab" / "checkpoints" / "last.ckpt"),
            "log-mel": {"primary": "mAP", "score": 0.1},
        }
    }
    (tmp_path / "scores.json").write_text(json.dumps({"grid": "fast", "tasks": tasks}))
    records = read_records([tmp_path])
    assert evaluated(run, records) == {"esc (mAP, fast)": 0.5}
    assert measure_rows([Group("a", (run,))], records) == [["esc (mAP, fast)", "0.5000"]]
    with pytest.raises(ValueError, match=r"holds no scores.json"):
        read_records([tmp_path / "a"])


def test_every_run_is_a_row_of_the_csv(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(tmp_path / "runs.csv"), str(folder)])
    rows = {Path(row["run"]).name: row for row in csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())}
    assert list(rows) == ["warm-0", "warm-1", "cold", "collapsed"]
    assert (rows["cold"]["state"], rows["cold"]["step"], rows["cold"]["config.objective.nt_xent.temperature"]) == ("done", "6", "0.1")
    assert float(rows["cold"]["last.loss"]) == float(named(folder)["cold"].rows[-1]["loss"])
    assert rows["collapsed"]["reason"].startswith("the embeddings collapsed")
    assert capsys.readouterr().out.startswith("4 runs in ")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no run; give a run folder"):
        main([str(tmp_path)])
    with pytest.raises(ValueError, match=r"gone is not a folder"):
        main(["compare", str(tmp_path / "gone")])
    with pytest.raises(SystemExit) as ended:
        main(["compare"])
    assert ended.value.code == 2


@pytest.mark.slow
def test_the_page_has_the_curves_of_every_run_and_nothing_loads_torch(folder: Path, tmp_path: Path) -> None:
    script = "import sys; from hear_ssl.runs.__main__ import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    out = tmp_path / "compare.html"
    command = [sys.executable, "-c", script, "compare", str(folder / "sweep"), "--out", str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "[1] temperature=0.5\n[2] temperature=0.1\n" in result.stdout
    text = out.read_text()
    assert "3 runs compared" in text
    assert "temperature=0.5" in text
    assert "<th>objective.<wbr>nt_<wbr>xent.<wbr>temperature</th><td>0.5</td><td>0.1</td>" in text
    assert "<th>seed</th><td>0, 1</td><td>0</td>" in text
    loss = text[text.index("<div class=panels>") :].split("</svg>")[0]
    lines = [loss.count(f"stroke: {colour}; stroke-width: 1.2") for colour in PALETTE[:2]]
    assert lines == [2, 1]  # runs of the two groups
    assert "src=" not in text
