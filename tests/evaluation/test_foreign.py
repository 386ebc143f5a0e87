"""A foreign module may raise and return anything: its task is named in one line, and the other tasks go on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hear_ssl.evaluation import __main__ as command
from hear_ssl.evaluation import baselines
from hear_ssl.evaluation.model_under_test import ModelUnderTest, load_model_under_test
from hear_ssl.evaluation.protocol.embed import task_rows
from hear_ssl.evaluation.run import evaluate
from hear_ssl.evaluation.tasks.task_format import read_task
from tests.evaluation.test_evaluate import log_mel, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("tasks") / "scene")


def raising(error: Exception) -> Any:
    def embed(audio: torch.Tensor, model: Any) -> torch.Tensor:
        raise error

    return embed


WRONG = {
    "AssertionError: too short": raising(AssertionError("too short")),
    "IndexError": raising(IndexError("list index out of range")),
    "KeyError": raising(KeyError("conv1")),
    "MemoryError": raising(MemoryError()),
    "FileNotFoundError": raising(FileNotFoundError("no weights")),
    "it returned ndarray, not a torch.Tensor": lambda audio, model: audio.numpy(),
    "it returned NoneType, not a torch.Tensor": lambda audio, model: None,
}


@pytest.mark.parametrize("line", WRONG)
def test_whatever_a_module_raises_is_a_fault_of_its_task(scene: Path, tmp_path: Path, line: str) -> None:
    module = SimpleNamespace(get_scene_embeddings=WRONG[line])
    subject = ModelUnderTest("wrong", "wrong", module, baselines.load_model())
    with pytest.raises(ValueError, match="get_scene_embeddings failed") as caught:
        task_rows(read_task(scene), subject, tmp_path)
    assert line in str(caught.value)


def test_out_of_memory_ends_one_task_and_a_full_disk_ends_all(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hear_ssl.evaluation.run.score", lambda *given: raising(MemoryError())(*given[:2]))
    assert "out of memory" in str(evaluate([log_mel()], [scene], tmp_path, "fast", 1, show=False)["faults"])
    monkeypatch.setattr("hear_ssl.evaluation.run.score", lambda *given: raising(OSError(28, "No space left"))(*given[:2]))
    with pytest.raises(OSError, match="No space left"):
        evaluate([log_mel()], [scene], tmp_path, "fast", 1, show=False)


@pytest.mark.parametrize(("code", "line"), [("def (", "SyntaxError"), ("raise SystemExit('no GPU')", "SystemExit: no GPU")])
def test_a_module_that_does_not_import_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, line: str) -> None:
    (tmp_path / "hear_broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="module hear_broken does not import: ") as caught:
        load_model_under_test("hear_broken")
    assert line in str(caught.value)
    assert "hear_broken" not in sys.modules
    for path in (".foo", "./runs/none", ""):
        with pytest.raises(ValueError, match="is neither a run folder or checkpoint that is there nor the name of a module"):
            load_model_under_test(path)


def test_damaged_kept_embeddings_are_made_anew(scene: Path, tmp_path: Path) -> None:
    task = read_task(scene)
    first = task_rows(task, log_mel(), tmp_path)
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    again = task_rows(task, log_mel(), tmp_path)
    assert torch.equal(first["test"].embeddings, again["test"].embeddings)


def test_exit_status_counts_the_tasks_and_models_asked_for_and_no_others(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_scene(tmp_path / "tasks" / "my scene"), tmp_path / "out"
    arguments = ["evaluate", "--module", baselines.__name__, "--tasks", str(folder), "--out", str(out), "--grid", "fast"]
    monkeypatch.setattr(sys, "argv", arguments)
    whole = (folder / "valid.json").read_text()
    (folder / "valid.json").write_text("{}")
    assert command.main() == 1
    (folder / "valid.json").write_text(whole)
    record = json.loads((out / "scores.json").read_text())
    record["faults"] = {"my scene": {"another": "it failed"}, "scene": {"log-mel": "it failed"}}
    (out / "scores.json").write_text(json.dumps(record))
    assert command.main() == 0
    record["faults"] = {"my scene log-mel": "as earlier versions wrote it"}
    (out / "scores.json").write_text(json.dumps(record))
    assert command.main() == 0
