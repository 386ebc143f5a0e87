"""The quick probe: its two readers against their definitions, and that it leaves the test split alone."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest
from hear_ssl.evaluation.protocol.probes import DECAYS, nearest_neighbours, ridge
from hear_ssl.evaluation.protocol.quick_probe import probe, probe_all, probe_tasks
from tests.evaluation.test_evaluate import make_event, make_scene


def log_mel() -> ModelUnderTest:
    return ModelUnderTest("log-mel", "log-mel", baselines, baselines.load_model())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    make_scene(folder / "scene")
    make_scene(folder / "folds", multilabel=True, folds=True, evaluation=["mAP"])
    make_event(folder / "event")
    return folder


@pytest.mark.parametrize("dim", [8, 60])
def test_ridge_is_sklearns_with_the_decay_that_leaving_one_out_prefers(dim: int) -> None:
    generator = np.random.default_rng(dim)
    known = generator.standard_normal((40, dim))
    known -= known.mean(0)
    known *= 4.0 ** -np.arange(dim).clip(max=3)  # few directions carry the labels, so that too little decay costs
    targets = (known @ np.ones((dim, 3)) + generator.standard_normal((40, 3)) > 0.0).astype(float)
    asked, offset = generator.standard_normal((5, dim)), targets.mean(0)
    spectrum = np.linalg.svd(known, compute_uv=False) ** 2
    strengths = [decay * spectrum.sum() / min(known.shape) for decay in DECAYS]

    def left_out(strength: float) -> float:
        errors = []
        for row in range(40):
            rest = np.arange(40) != row
            model = Ridge(strength, fit_intercept=False).fit(known[rest], targets[rest] - offset)
            errors.append((model.predict(known[row : row + 1]) - (targets[row] - offset)) ** 2)
        return float(np.mean(errors))

    best = min(strengths, key=left_out)
    assert best not in (strengths[0], strengths[-1])  # or the choice would be none
    expected = Ridge(best, fit_intercept=False).fit(known, targets - offset).predict(asked) + offset
    found = ridge(*(torch.from_numpy(rows).float() for rows in (known, targets, asked)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_neighbours_are_sklearns() -> None:
    generator = np.random.default_rng(0)
    known, asked, labels = generator.standard_normal((50, 6)), generator.standard_normal((20, 6)), generator.integers(0, 3, 50)
    model = KNeighborsClassifier(5, metric="cosine", weights=lambda distances: 1.0 - distances / 2.0).fit(known, labels)
    found = nearest_neighbours(torch.from_numpy(known), torch.eye(3, dtype=torch.float64)[labels], torch.from_numpy(asked))
    np.testing.assert_allclose(found.numpy(), model.predict_proba(asked))


def test_tones_are_told_apart_and_noise_is_not(tasks: Path) -> None:
    class Blind:
        """Embeddings that know nothing of the sound."""

        generator = torch.Generator().manual_seed(0)

        @classmethod
        def get_scene_embeddings(cls, audio: torch.Tensor, model: object) -> torch.Tensor:
            return torch.randn(len(audio), 192, generator=cls.generator)

    chosen = {task.name: task for task in probe_tasks([str(tasks)], 400, 800.0, 0)}
    scores = probe_all(list(chosen.values()), log_mel())
    assert set(scores) == {
        "probe",
        "probe_event_linear",
        *(f"probe_{task}_{kind}" for task in ("folds", "scene") for kind in ("knn", "linear")),
    }
    assert scores["probe_scene_linear"] > 0.9
    assert scores["probe_scene_knn"] > 0.9
    assert scores["probe_event_linear"] > 0.9
    means = [
        scores["probe_event_linear"],
        *((scores[f"probe_{task}_knn"] + scores[f"probe_{task}_linear"]) / 2 for task in ("folds", "scene")),
    ]
    assert scores["probe"] == pytest.approx(sum(means) / 3)
    blind = probe(chosen["scene"], ModelUnderTest("blind", "blind", Blind, baselines.load_model()))
    assert max(blind.values()) < 0.7


def test_clips_are_few_of_every_label_and_the_same_for_a_seed(tasks: Path) -> None:
    def of(clips: int, seconds: float, seed: int) -> dict[str, list[str]]:
        [task] = probe_tasks([str(tasks / "scene")], clips, seconds, seed)
        for split, index in task.indexes.items():
            counts = Counter(labels[0] for labels in index.values())
            assert max(counts.values()) - min(counts.values()) <= 1, split
        return {split: list(index) for split, index in task.indexes.items()}

    few = of(9, 800.0, 0)
    assert {split: len(files) for split, files in few.items()} == {"train": 9, "valid": 9}
    assert few == of(9, 800.0, 0)
    assert few != of(9, 800.0, 1)
    assert len(of(400, 6.0, 0)["train"]) == 12  # clips of 0.5 s
    [folds] = probe_tasks([str(tasks / "folds")], 4, 800.0, 0)
    assert {split: len(index) for split, index in folds.indexes.items()} == {"fold02": 4, "fold01": 4}


def test_the_test_split_is_not_needed(tasks: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    for name, split in (("scene", "test"), ("event", "test"), ("folds", "fold00")):
        shutil.rmtree(folder / name / "16000" / split)
        (folder / name / f"{split}.json").write_text(json.dumps({"gone.wav": []} if name != "scene" else {"gone.wav": ["low"]}))
    assert probe_all(probe_tasks([str(folder)], 400, 800.0, 0), log_mel()) == probe_all(probe_tasks([str(tasks)], 400, 800.0, 0), log_mel())


def test_mistakes_name_the_folder(tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere holds no task"):
        probe_tasks([str(tmp_path / "nowhere")], 400, 800.0, 0)
    with pytest.raises(ValueError, match="the task scene is given twice"):
        probe_tasks([str(tasks), str(tasks / "scene")], 400, 800.0, 0)
    broken = Path(shutil.copytree(tasks / "scene", tmp_path / "broken"))
    (broken / "16000" / "valid" / "valid3.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"valid3.wav cannot be read"):
        probe_tasks([str(broken)], 400, 800.0, 0)
    (broken / "16000" / "valid" / "valid3.wav").unlink()
    with pytest.raises(ValueError, match=r"no audio of valid/valid3.wav at any rate"):
        probe_tasks([str(broken)], 400, 800.0, 0)
