"""Scores of modules on tasks: the command, the protocol's parts, and what happens to a damaged task."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest, foreign, load_model_under_test
from hear_ssl.evaluation.protocol import embed, grid
from hear_ssl.evaluation.protocol import score_task as protocol
from hear_ssl.evaluation.protocol.embed import embed_batch, task_rows
from hear_ssl.evaluation.protocol.grid import grid_points
from hear_ssl.evaluation.protocol.predictor import PredictorSettings
from hear_ssl.evaluation.protocol.score_task import Fold, score_task
from hear_ssl.evaluation.protocol.scores import SCORES
from hear_ssl.evaluation.run import CLEAR, evaluate, progress_of, table
from hear_ssl.evaluation.tasks.task_format import Task, audio_folder, find_tasks, read_clip, read_task
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny
from tests.data.sounds import tone, write

PITCHES = {"low": 300.0, "mid": 900.0, "high": 2500.0}
QUICK = {"task_specific_param_grid": {"max_epochs": [30], "hidden_dim": [64]}}


def make_scene(folder: Path, multilabel: bool = False, folds: bool = False, **metadata: Any) -> Path:
    """Write a task of tones in noise: 8 clips a class in every split."""
    generator = np.random.default_rng(0)
    splits = ["fold00", "fold01", "fold02"] if folds else ["train", "valid", "test"]
    for split in splits:
        index = {}
        for number in range(24):
            label = sorted(PITCHES)[number % 3]
            waveform = generator.uniform(0.5, 1.0) * tone(0.5, PITCHES[label]) + 0.02 * generator.standard_normal(8000).astype(np.float32)
            write(folder / "16000" / split / f"{split}{number}.wav", waveform, subtype="PCM_16")
            index[f"{split}{number}.wav"] = [label] + (["even"] if multilabel and number % 2 else [])
        (folder / f"{split}.json").write_text(json.dumps(index))
    labels = sorted([*PITCHES, *(["even"] if multilabel else [])])
    finish(
        folder,
        labels,
        splits,
        "scene",
        "multilabel" if multilabel else "multiclass",
        "new_split_kfold" if folds else "trainvaltest",
        **metadata,
    )
    return folder


def make_event(folder: Path) -> Path:
    """Write a task of tone bursts: 4 clips of 4 s in every split."""
    generator = np.random.default_rng(1)
    for split in ("train", "valid", "test"):
        index = {}
        for number in range(4):
            waveform, events, start = 0.01 * generator.standard_normal(64000).astype(np.float32), [], 0.2
            while start < 3.2:
                label = sorted(PITCHES)[generator.integers(3)]
                waveform[round(start * 16000) : round((start + 0.4) * 16000)] += tone(0.4, PITCHES[label])
                events.append({"label": label, "start": start * 1000, "end": (start + 0.4) * 1000})
                start += 0.4 + generator.uniform(0.2, 0.5)
            write(folder / "16000" / split / f"{split}{number}.wav", np.clip(waveform, -1, 1), subtype="PCM_16")
            index[f"{split}{number}.wav"] = events
        (folder / f"{split}.json").write_text(json.dumps(index))
    finish(
        folder,
        sorted(PITCHES),
        ["train", "valid", "test"],
        "event",
        "multilabel",
        "trainvaltest",
        evaluation=["event_onset_200ms_fms", "segment_1s_er"],
    )
    return folder


def finish(folder: Path, labels: list[str], splits: list[str], kind: str, prediction: str, mode: str, **metadata: Any) -> None:
    with open(folder / "labelvocabulary.csv", "w", newline="") as file:
        csv.writer(file).writerows([("idx", "label"), *enumerate(labels)])
    content = {"task_name": folder.name, "embedding_type": kind, "prediction_type": prediction, "split_mode": mode, "splits": splits}
    content |= {"evaluation": ["top1_acc"], "evaluation_params": QUICK, "sample_duration": 0.5}
    (folder / "task_metadata.json").write_text(json.dumps(content | metadata))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    make_scene(folder / "scene")
    make_scene(folder / "folds", multilabel=True, folds=True, evaluation=["mAP", "d_prime", "aucroc", "top1_acc"])
    make_event(folder / "event")
    return folder


def log_mel() -> ModelUnderTest:
    return ModelUnderTest("log-mel", "log-mel", baselines, baselines.load_model())


def test_tones_are_told_apart_in_every_kind_of_task(tasks: Path, tmp_path: Path) -> None:
    record = evaluate([log_mel()], find_tasks(tasks), tmp_path, "fast", 1, show=False)
    scores = {task: results["log-mel"]["score"] for task, results in record["tasks"].items()}
    assert not any(record["faults"].values())
    assert scores["scene"] > 0.9
    assert scores["folds"] > 0.6
    assert scores["event"] > 0.5
    frames = len(task_rows(read_task(tasks / "event"), log_mel(), tmp_path / "embeddings")["train"].embeddings)
    last = record["tasks"]["event"]["log-mel"]["folds"][0]["epoch"]
    assert (last + 1) * -(-frames // 1024) == 600  # steps, to the end of a falling learning rate
    assert len(record["tasks"]["folds"]["log-mel"]["folds"]) == 3
    assert "mean" in table(record, ["log-mel"])


def test_embeddings_and_results_are_kept_and_the_same_again(tasks: Path, tmp_path: Path) -> None:
    class Counting:
        calls = 0

        def get_scene_embeddings(self, audio: torch.Tensor, model: Any) -> torch.Tensor:
            Counting.calls += 1
            return baselines.get_scene_embeddings(audio, model)

    subject = ModelUnderTest("counting", "counting", Counting(), baselines.load_model())
    first = evaluate([subject], [tasks / "scene"], tmp_path, "fast", 1, show=False)
    count = Counting.calls
    assert evaluate([subject], [tasks / "scene"], tmp_path, "fast", 1, show=False) == first
    (tmp_path / "scores.json").unlink()
    again = evaluate([subject], [tasks / "scene"], tmp_path, "fast", 1, show=False)
    assert Counting.calls == count
    assert again["tasks"]["scene"]["counting"]["scores"] == first["tasks"]["scene"]["counting"]["scores"]


def test_results_of_a_grid_that_has_changed_are_not_taken_as_current(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate([log_mel()], [tasks / "scene"], tmp_path, "fast", 1, show=False)
    kept = json.loads((tmp_path / "scores.json").read_text())
    kept["tasks"]["scene"]["log-mel"]["score"] = -1.0
    (tmp_path / "scores.json").write_text(json.dumps(kept))
    assert evaluate([log_mel()], [tasks / "scene"], tmp_path, "fast", 1, show=False) == kept
    monkeypatch.setitem(grid.FAST, "hidden_dim", [64])
    assert evaluate([log_mel()], [tasks / "scene"], tmp_path, "fast", 1, show=False)["tasks"]["scene"]["log-mel"]["score"] > 0.5


def test_a_log_file_gets_a_line_of_progress_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hear_ssl.evaluation.run.time.monotonic", lambda: now[0])
    show = progress_of("task model")
    for now[0], line in ((1.0, "0 of 8"), (40.0, "1 of 8"), (41.0, "2 of 8"), (80.0, ""), (81.0, "3 of 8")):
        show(line)
    assert capsys.readouterr().err == "task model: 1 of 8\ntask model: 3 of 8\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    show("4 of 8")
    show("")
    assert capsys.readouterr().err == f"{CLEAR}task model: 4 of 8{CLEAR}"


def test_a_missing_rate_is_made_from_the_one_there(tasks: Path, tmp_path: Path) -> None:
    task = read_task(Path(shutil.copytree(tasks / "scene", tmp_path / "scene")))
    folder = audio_folder(task, "test", 32000)
    assert folder.parent.name == "32000"
    assert len(list(folder.iterdir())) == 24
    assert not list(folder.rglob("*.part*"))


def test_clips_of_many_lengths_do_not_pile_up_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_scene(tmp_path / "scene")
    for number in range(24):
        write(folder / "16000" / "test" / f"test{number}.wav", tone(0.1 + 0.01 * (number // 2), 900.0), subtype="PCM_16")
    read = []
    monkeypatch.setattr(embed, "read_clip", lambda path, rate: read.append(path.name) or read_clip(path, rate))
    monkeypatch.setattr(embed, "WAITING_SECONDS", 0.8)
    given, most = [], 0
    for files, audio in embed.batches(read_task(folder), "test", folder / "16000" / "test", 16000):
        most = max(most, len(read) - len(given))
        given += files
        assert len(audio) == len(files)
    assert sorted(given) == sorted(read)
    assert most <= 8


FAULTS = {
    "no vocabulary": (lambda f: (f / "labelvocabulary.csv").unlink(), "labelvocabulary.csv is missing"),
    "no split": (lambda f: (f / "valid.json").unlink(), "valid.json is missing"),
    "empty split": (lambda f: (f / "valid.json").write_text("{}"), "the split valid has no clips"),
    "unknown label": (
        lambda f: (f / "test.json").write_text('{"test0.wav": ["bell"]}'),
        "the label 'bell'",
    ),
    "two labels": (lambda f: (f / "test.json").write_text('{"test0.wav": ["low", "mid"]}'), "exactly one"),
    "no clip": (lambda f: (f / "16000" / "test" / "test3.wav").unlink(), "test3.wav"),
    "no audio": (lambda f: (f / "16000" / "test" / "test3.wav").write_bytes(b"RIFF"), "test3.wav cannot be read"),
    "leads outside": (lambda f: (f / "test.json").write_text('{"../../x.wav": ["low"]}'), "is not a plain file name"),
    "splits twice": (lambda f: change(f, splits=["train", "valid", "test", "test"]), "each must be there once"),
    "parameters no object": (lambda f: change(f, evaluation_params=["lr"]), "evaluation_params is ['lr']; it must be an object"),
    "grid no object": (lambda f: change(f, evaluation_params={"task_specific_param_grid": "lr"}), "is 'lr'; it must be an object of lists"),
    "grid of scalars": (lambda f: change(f, evaluation_params=epochs(30)), "max_epochs is 30; it must be a list of numbers"),
    "no check": (lambda f: change(f, evaluation_params=epochs([2])), "max_epochs [2] end before the first check after [3]"),
    "unknown score": (lambda f: change(f, evaluation=["accuracy"]), "score 'accuracy' is not known"),
    "unknown type": (lambda f: change(f, embedding_type="frame"), "embedding_type is 'frame'; allowed are scene, event"),
}


def epochs(value: Any) -> dict[str, Any]:
    return {"task_specific_param_grid": {"max_epochs": value}}


def change(folder: Path, **metadata: Any) -> None:
    path = folder / "task_metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | metadata))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_task_is_named_and_the_others_go_on(tasks: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path(shutil.copytree(tasks / "scene", tmp_path / "broken"))
    damage, line = FAULTS[fault]
    damage(broken)
    record = evaluate([log_mel()], [broken, tasks / "scene"], tmp_path / "out", "fast", 1, show=False)
    assert line in record["faults"]["broken"]["log-mel"]
    assert "log-mel" in record["tasks"]["scene"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("start", "end"), [(None, 1.0), ([], 1.0), ("0", 1.0), (0.0, math.inf), (math.nan, 1.0), (2.0, 1.0), (0, 10**400), (True, 1.0)]
)
def test_an_event_without_a_span_of_time_is_named(tasks: Path, tmp_path: Path, start: Any, end: Any) -> None:
    broken = Path(shutil.copytree(tasks / "event", tmp_path / "broken"))
    (broken / "test.json").write_text(json.dumps({"test0.wav": [{"label": "low", "start": start, "end": end}]}))
    with pytest.raises(ValueError, match=r"test.json: test0.wav has an event from .* to .*; both are ms"):
        read_task(broken)


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"prediction_type": "multiclass"}, "an event task must be multilabel"),
        ({"evaluation_params": {"event_postprocessing_grid": {"median": [1]}}}, "has median; known are threshold, median_filter_ms"),
        ({"evaluation_params": {"event_postprocessing_grid": {"threshold": ["a"]}}}, "it must be a list of numbers of at least 0"),
    ],
)
def test_event_tasks_are_checked_before_anything_is_computed(tasks: Path, tmp_path: Path, metadata: dict[str, Any], line: str) -> None:
    broken = Path(shutil.copytree(tasks / "event", tmp_path / "broken"))
    change(broken, **metadata)
    with pytest.raises(ValueError, match=line):
        read_task(broken)


@pytest.mark.parametrize("times", [torch.full((1, 3), math.nan), torch.zeros(1, 0)])
def test_timestamps_that_are_no_numbers_or_none_are_named(tasks: Path, times: torch.Tensor) -> None:
    def wrong(audio: torch.Tensor, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, times.shape[1], 320), times

    module = type("Wrong", (), {"get_timestamp_embeddings": staticmethod(wrong)})
    subject = ModelUnderTest("wrong", "wrong", module, baselines.load_model())
    with pytest.raises(ValueError, match="timestamps are not ascending ms"):
        embed_batch(read_task(tasks / "event"), subject, ["a.wav"], torch.zeros(1, 16000))


@pytest.mark.parametrize(
    ("embed", "line"),
    [
        (lambda audio: torch.full((audio.shape[0], 192), float("nan")), "its embedding is not finite"),
        (lambda audio: torch.zeros(audio.shape[0], 3), "its embeddings have the shape"),
    ],
)
def test_wrong_embeddings_are_named_with_the_clip(tasks: Path, tmp_path: Path, embed: Any, line: str) -> None:
    module = type("Wrong", (), {"get_scene_embeddings": staticmethod(lambda audio, model: embed(audio))})
    with pytest.raises(ValueError, match=line):
        task_rows(read_task(tasks / "scene"), ModelUnderTest("wrong", "wrong", module, baselines.load_model()), tmp_path)


@pytest.mark.parametrize("scale", [0.001, 1.0 / 3.0])
def test_timestamps_in_other_units_or_past_the_end_are_named(tasks: Path, tmp_path: Path, scale: float) -> None:
    def wrong(audio: torch.Tensor, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings, timestamps_ms = baselines.get_timestamp_embeddings(audio, model)
        return embeddings, timestamps_ms / scale

    subject = ModelUnderTest(
        "wrong", f"wrong{scale}", type("Wrong", (), {"get_timestamp_embeddings": staticmethod(wrong)}), baselines.load_model()
    )
    with pytest.raises(ValueError, match="timestamps are not ascending ms"):
        task_rows(read_task(tasks / "event"), subject, tmp_path)


def test_the_grid_is_the_kits_first_eight_and_tasks_may_change_it(tasks: Path) -> None:
    points = grid_points(read_task(tasks / "scene"), "official")
    assert len(points) == 8
    assert {point.max_epochs for point in points} == {30}
    assert len({(point.hidden_layers, point.lr, point.initialization) for point in points}) == 8


def test_scene_scores_are_sklearns() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.uniform(size=(50, 4)) < 0.4).astype(np.float32)
    predictions = generator.uniform(size=(50, 4)) + targets
    assert SCORES["mAP"].compute(predictions, targets) == pytest.approx(average_precision_score(targets, predictions, average="macro"))
    assert SCORES["aucroc"].compute(predictions, targets) == pytest.approx(roc_auc_score(targets, predictions, average="macro"))
    assert SCORES["d_prime"].compute(np.eye(2)[[0, 1, 0, 1]] + 0.0, np.eye(2)[[0, 1, 1, 0]]) == pytest.approx(0.0, abs=1e-9)
    perfect = SCORES["d_prime"].compute(np.eye(2)[[0, 1, 0, 1]] + 0.0, np.eye(2)[[0, 1, 0, 1]])
    assert perfect == pytest.approx(2.0**0.5 * NormalDist().inv_cdf(7 / 8))  # half of one pair of four is wrong
    one_hot = np.eye(24)[[0, 12, 5, 5]]
    assert SCORES["chroma_acc"].compute(np.eye(24)[[12, 0, 17, 6]], one_hot) == 0.75
    assert SCORES["pitch_acc"].compute(np.eye(24)[[12, 12, 5, 6]], one_hot) == 0.5


def test_another_seed_changes_the_predictor_and_the_same_does_not(tasks: Path, tmp_path: Path) -> None:
    task: Task = read_task(tasks / "scene")
    rows = task_rows(task, log_mel(), tmp_path)
    fold = Fold.of(rows, task.folds()[0], [PredictorSettings()])
    first, again, other = (protocol.train_predictor(task, PredictorSettings(1, 16, max_epochs=3), fold, seed) for seed in (1, 1, 2))
    assert torch.equal(first.state[0], again.state[0])
    assert not torch.equal(first.state[0], other.state[0])
    assert score_task(task, rows, "fast", 1)["scores"] == score_task(task, rows, "fast", 1)["scores"]


@pytest.mark.parametrize(("grid", "width"), [("fast", 24), ("official", 192)])
def test_only_the_fast_grid_trains_in_the_space_that_few_rows_span(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: str, width: int
) -> None:
    task = read_task(tasks / "scene")
    rows = task_rows(task, log_mel(), tmp_path)
    assert rows["train"].embeddings.shape == (24, 192)
    widths, whole = [], protocol.new_predictor
    monkeypatch.setattr(protocol, "new_predictor", lambda task, dim, *others: widths.append(dim) or whole(task, dim, *others))
    assert score_task(task, rows, grid)["scores"]["top1_acc"] > 0.9
    assert set(widths) == {width}


def test_scores_do_not_depend_on_the_number_of_threads(tasks: Path, tmp_path: Path) -> None:
    task = read_task(tasks / "folds")
    rows, before = task_rows(task, log_mel(), tmp_path), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(score_task(task, rows, "official"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_what_cannot_be_surpassed_ends_training(tasks: Path, tmp_path: Path) -> None:
    task = replace(read_task(tasks / "scene"), parameters={})
    rows = task_rows(task, log_mel(), tmp_path)
    result = score_task(task, rows, "fast")
    assert result["folds"][0]["validation"] == 1.0
    assert result["scores"]["top1_acc"] > 0.9
    assert [SCORES[name].best for name in ("mAP", "segment_1s_er", "d_prime")] == [1.0, 0.0, math.inf]


def test_what_is_no_module_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a run folder nor a module"):
        load_model_under_test("hear_no_such_module")
    with pytest.raises(ValueError, match=r"--weights none.pt is not a file"):
        load_model_under_test(baselines.__name__, "none.pt")
    with pytest.raises(ValueError, match=r"get_scene_embeddings failed: SystemExit: 3"), foreign("get_scene_embeddings"):
        sys.exit(3)
    with pytest.raises(ValueError, match=r"module json has no load_model; it does not follow the HEAR API"):
        load_model_under_test("json")
    with pytest.raises(ValueError, match="holds no task"):
        find_tasks(tmp_path)


@pytest.mark.slow
def test_the_command_prints_the_table_with_both_baselines(shards: Path, tasks: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "run", "trainer.steps=2"), resume=False)
    command = [sys.executable, "-m", "hear_ssl.evaluate", "--module", str(tmp_path / "run"), "--tasks", str(tasks), "--grid", "fast"]
    result = subprocess.run([*command, "--out", str(tmp_path / "out"), "--seeds", "2"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    header, *lines = result.stdout.splitlines()
    assert header.split()[2:] == [str(tmp_path / "run"), "untrained", "log-mel"]
    assert [line.split()[0] for line in lines[:4]] == ["event", "folds", "scene", "mean"]
    assert "±" in result.stdout
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["seeds"] == 2
