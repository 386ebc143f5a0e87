"""The grid few-shot against plain loops, and what each of its protocols does and does not depend on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from hear_ssl.evaluation import GRIDS
from hear_ssl.evaluation.protocol.few_shot import (
    DRAWS,
    PROTOCOLS,
    SHOTS,
    by_protocol,
    few_shot,
    logistic,
    neighbours,
    score_few_shot,
    shots,
)
from hear_ssl.evaluation.protocol.grid import points_hash
from hear_ssl.evaluation.protocol.score_task import LabelledRows
from hear_ssl.evaluation.report.score_table import confidence, leaderboard_text, score_tables
from hear_ssl.evaluation.run import evaluate, tables
from hear_ssl.evaluation.tasks.task_format import Task, read_task
from tests.evaluation.test_evaluate import log_mel, make_event, make_scene

LABELS, DIM = 5, 24


def rows_of(clips: int, seed: int, noise: float = 2.0) -> LabelledRows:
    """Return clips of five labels around centres that are the same for every seed."""
    centres = np.random.default_rng(99).standard_normal((LABELS, DIM))
    generator = np.random.default_rng(seed)
    labels = generator.integers(LABELS, size=clips)
    embeddings = torch.from_numpy(centres[labels] + noise * generator.standard_normal((clips, DIM))).float()
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), LABELS).float()
    return LabelledRows(embeddings, targets, [(f"{seed}-{row}", slice(row, row + 1)) for row in range(clips)], np.zeros(clips), {})


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a multiclass task of five labels whose audio is never read."""
    made = read_task(make_scene(tmp_path_factory.mktemp("few") / "scene"))
    labels = tuple(f"label{number}" for number in range(LABELS))
    return replace(made, labels=labels, scores=("top1_acc",))


@pytest.fixture(scope="module")
def splits() -> dict[str, LabelledRows]:
    return {"train": rows_of(300, 1), "valid": rows_of(100, 2), "test": rows_of(400, 3)}


def test_a_draw_has_eight_clips_of_each_label_and_draws_differ() -> None:
    targets = rows_of(300, 1).targets
    drawn = [shots(targets, draw) for draw in range(3)]
    for chosen in drawn:
        assert len(set(chosen)) == len(chosen) == LABELS * SHOTS
        assert targets[chosen].sum(0).tolist() == [SHOTS] * LABELS
    assert len({tuple(chosen) for chosen in drawn}) == 3
    assert shots(targets, 0) == drawn[0]
    several = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]] * 9)
    assert several[shots(several, 0)].sum(0).tolist()[1] == SHOTS  # of a label with nine clips
    assert all(several[row].any() for row in shots(several, 0))
    few = torch.tensor([[1.0, 0.0]] * 20 + [[0.0, 1.0]] * 3)
    assert few[shots(few, 0)].sum(0).tolist() == [SHOTS, 3]  # as many as there are


def test_the_scores_are_those_of_plain_loops(task: Task, splits: dict[str, LabelledRows]) -> None:
    found = score_few_shot(task, splits)
    train, test = splits["train"], splits["test"]
    rows, labels = train.embeddings.numpy(), train.targets.argmax(1).numpy()
    asked, truth = test.embeddings.numpy(), test.targets.argmax(1).numpy()
    accuracies = []
    for draw in range(DRAWS):
        chosen = shots(train.targets, draw)
        model = LogisticRegression(max_iter=100).fit(rows[chosen], labels[chosen])
        accuracies.append((model.predict(asked) == truth).mean())
    assert found["score"] == found["scores"]["top1_acc"] == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert found["seed_deviation"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-9)
    right = 0
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for clip, label in zip(asked, truth, strict=True):
        cosines = unit @ clip / np.linalg.norm(clip)
        votes = np.zeros(LABELS)
        for nearest in sorted(range(len(rows)), key=lambda row: -cosines[row])[:5]:
            votes[labels[nearest]] += (1 + cosines[nearest]) / 2
        right += votes.argmax() == label
    assert found["protocols"]["knn"]["score"] == pytest.approx(right / len(truth), abs=1e-9)
    standard = [(part - rows.mean(0)) / rows.std(0) for part in (rows, asked)]
    errors = {}
    for decay in (1e-3, 1e-2, 1e-1, 1.0, 10.0):  # of the mean squared singular value, here by refitting without each clip
        targets = np.eye(LABELS)[labels]
        gram = standard[0].T @ standard[0]
        solved = np.linalg.solve(gram + decay * np.trace(gram) / DIM * np.eye(DIM), standard[0].T)
        fit, leverage = standard[0] @ solved @ (targets - targets.mean(0)), np.einsum("ij,ji->i", standard[0], solved)
        errors[decay] = (((targets - targets.mean(0) - fit) / (1 - leverage)[:, None]) ** 2).mean(), solved @ (targets - targets.mean(0))
    best = min(errors.values(), key=lambda pair: pair[0])[1]
    predicted = (standard[1] @ best + np.eye(LABELS)[labels].mean(0)).argmax(1)
    assert found["protocols"]["linear"]["score"] == pytest.approx((predicted == truth).mean(), abs=0.003)


def test_only_few_shot_depends_on_the_scale_of_a_dimension_and_knn_not_on_that_of_a_clip(
    task: Task, splits: dict[str, LabelledRows]
) -> None:
    def scaled(by: Tensor) -> dict[str, float]:
        changed = {name: replace(part, embeddings=part.embeddings * by) for name, part in splits.items()}
        return {name: one["score"] for name, one in score_few_shot(task, changed)["protocols"].items()}

    plain = scaled(torch.ones(DIM))
    uneven = scaled(torch.tensor([30.0] + [1.0] * (DIM - 1)))
    assert uneven["few-shot"] < plain["few-shot"] - 0.02
    assert uneven["linear"] == pytest.approx(plain["linear"], abs=0.003)
    louder = {
        name: replace(part, embeddings=part.embeddings * torch.linspace(0.5, 2.0, len(part.embeddings)).unsqueeze(1))
        for name, part in splits.items()
    }
    assert score_few_shot(task, louder)["protocols"]["knn"]["score"] == plain["knn"]


def test_a_label_that_training_lacks_is_never_predicted() -> None:
    known, asked = torch.randn(20, 4), torch.randn(6, 4)
    targets = torch.zeros(20, 3)
    targets[:10, 0], targets[10:, 2] = 1.0, 1.0
    assert logistic(known, targets, asked)[:, 1].tolist() == [0.0] * 6
    targets = torch.zeros(20, 3)
    targets[:, 1] = 1.0
    assert logistic(known, targets, asked).tolist() == [[0.0, 1.0, 0.0]] * 6


def test_multilabel_shots_vote_as_neighbours(task: Task, splits: dict[str, LabelledRows]) -> None:
    several, chosen = replace(task, prediction_type="multilabel"), shots(splits["train"].targets, 4)
    expected = neighbours(splits["train"].embeddings[chosen], splits["train"].targets[chosen], splits["test"].embeddings)
    assert torch.equal(few_shot(several, splits["train"], splits["test"], 4), expected)


def test_real_tasks_are_scored_in_seconds_tabulated_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_scene(tmp_path / "tasks" / "scene")
    make_scene(tmp_path / "tasks" / "folds", multilabel=True, folds=True, evaluation=["mAP", "d_prime"])
    make_event(tmp_path / "tasks" / "event")
    folders = sorted((tmp_path / "tasks").iterdir())
    record = evaluate([log_mel()], folders, tmp_path / "out", "few-shot", 1, show=False)
    assert "event: left out, since the grid few-shot is for scene tasks" in capsys.readouterr().err
    assert set(record["tasks"]) == {"scene", "folds"}
    assert not any(record["faults"].values())
    scene = record["tasks"]["scene"]["log-mel"]
    assert all(scene["protocols"][name]["score"] > 0.9 for name in PROTOCOLS)
    assert scene["prediction_seconds"] < 10
    assert len(record["tasks"]["folds"]["log-mel"]["folds"]) == 3
    text = tables(record, ["log-mel"])
    assert [line for line in text.splitlines() if line.split(":")[0] in PROTOCOLS] == [title for title, _ in by_protocol(record)]
    assert text.count("of 2 tasks") == 3
    assert score_tables(record, "log-mel").count("<table>") == 3
    assert confidence(scene)[1] in ("draws", "95 %, 24 clips")
    assert "The published scores need <code>--grid official</code>" in leaderboard_text(record, "log-mel")
    with pytest.raises(ValueError, match=r"is the mean over 10 draws already; leave --seeds out"):
        evaluate([log_mel()], folders, tmp_path / "out", "few-shot", 2, show=False)


def test_the_grids_are_kept_apart() -> None:
    assert len({points_hash(grid) for grid in GRIDS}) == 3


@pytest.mark.slow
def test_a_task_of_the_size_of_esc50_takes_seconds(task: Task) -> None:
    generator, labels = torch.Generator().manual_seed(0), 50
    splits = {}
    for name, clips in (("train", 1200), ("valid", 400), ("test", 400)):
        targets = torch.nn.functional.one_hot(torch.arange(clips) % labels, labels).float()
        embeddings = torch.randn(clips, 2048, generator=generator) + targets @ torch.randn(labels, 2048)
        splits[name] = LabelledRows(embeddings, targets, [(str(row), slice(row, row + 1)) for row in range(clips)], np.zeros(clips), {})
    start = time.process_time()
    score_few_shot(replace(task, labels=tuple(map(str, range(labels)))), splits)
    assert time.process_time() - start < 60
