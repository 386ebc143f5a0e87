"""The verbs of Python: the example of the README word for word, what they return and restore, and their errors."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hear_ssl as hs
from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.errors import message
from hear_ssl.evaluation.__main__ import main as evaluate_command
from hear_ssl.packaging.package_cli import main as package_command
from hear_ssl.packaging.verify_cli import main as verify_command
from hear_ssl.training.fit_cli import main as fit_command
from tests.conftest import MEMORY, NT_XENT, ROOT, TINY

SMALL: dict[str, Any] = {
    key: yaml.safe_load(value) for key, value in (override.split("=") for override in [*TINY, *NT_XENT, *MEMORY]) if key != "trainer.steps"
}
ADDRESS = "https://example.com/w.safetensors"
SHORTER = {  # what the tests change in the README's example: numbers alone
    "steps=200": f"steps=2, overrides={ {'data.batch_size': 8, 'trainer.log_every': 1} }",
    'tasks="tasks"': 'tasks="tasks/synth_pitch-v1-full"',
}


def example(without: str = "") -> str:
    """Return the Python example of the README with fewer steps, and without the lines that match a pattern."""
    text = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    for whole, short in SHORTER.items():
        assert text.count(whole) == 1
        text = text.replace(whole, short)
    return "".join(line + "\n" for line in text.splitlines() if not (without and re.search(without, line)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write shards and tasks, under the names that the example has."""
    folder = tmp_path_factory.mktemp("api")
    command = [sys.executable, "-m", "hear_ssl", "synth", "instruments", "--clips", "24", "--seed", "0"]
    subprocess.run([*command, "--out", str(folder / "shards"), "--tasks", str(folder / "tasks")], check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    for name in ("shards", "tasks"):
        shutil.copytree(corpus / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> hs.Run:
    return hs.fit("simclr", shards=shards, steps=2, run=tmp_path_factory.mktemp("run") / "one", overrides=SMALL)


def python(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    return subprocess.run([sys.executable, *arguments], input=given, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.slow
def test_the_example_runs_as_a_plain_script_and_prints_only_what_it_prints(folder: Path) -> None:
    (folder / "script.py").write_text(example("logging") + "print([row.name for row in hs.verify(wheel) if row.passed is False])\n")
    done = python(folder, "script.py")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"tensor\([\d.]+, grad_fn=<DivBackward0>\)\n\[\]\n", done.stdout)
    assert "step" not in done.stderr


@pytest.mark.slow
def test_the_example_runs_from_standard_input_and_reports_to_the_logger(folder: Path) -> None:
    done = python(folder, "-", given=example("verify|evaluate|package") + "print(scene.shape)\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("torch.Size([4, 3072])\n")
    assert "\nstep 2/2  loss" in done.stderr
    assert "\ndone: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "handled 15")])
def test_a_signal_saves_the_run_and_then_reaches_the_program(folder: Path, number: signal.Signals, ending: str) -> None:
    code = f"""
import logging, os, signal, sys
import hear_ssl as hs
class Stop(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith("step 3/"):
            os.kill(os.getpid(), {int(number)})
logging.getLogger("hear_ssl").addHandler(Stop())
logging.getLogger("hear_ssl").setLevel("INFO")
signal.signal(signal.SIGTERM, lambda number, frame: print("handled", number))
try:
    hs.fit("simclr", shards="shards", steps=500, run="run", overrides={SMALL!r})
except KeyboardInterrupt:
    print("KeyboardInterrupt")
run = hs.fit(resume="run", steps=load + 2) if (load := int(hs.Run("run").metrics()[-1]["step"])) < 500 else None
print(run.metrics()[-1]["step"] - load)
"""
    done = python(folder, "-", given=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-3:] == [ending, "2.0", ""]


def test_fit_returns_a_run_that_is_a_path(run: hs.Run) -> None:
    assert Path(run) == run.folder
    assert os.fspath(run) == str(run) == str(run.folder)
    assert (run / "config.yaml").is_file()
    assert run.checkpoint == run.folder / "checkpoints" / "last.ckpt"
    assert [row["step"] for row in run.metrics()] == [1.0, 2.0]
    assert all(row["loss"] > 0 for row in run.metrics())
    assert load_checkpoint(Path(run))["config"]["data"]["batch_size"] == 8


def test_a_run_is_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a run folder: it has no config"):
        hs.Run(tmp_path)


def test_fit_restores_what_it_changes_in_the_process(shards: Path, tmp_path: Path) -> None:
    def handler(number: int, frame: Any) -> None:
        return

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT)
    before = {number: signal.signal(number, handler) for number in numbers}
    level, threads = logging.getLogger("pytorch_lightning").level, torch.get_num_threads()
    random.seed(1)
    torch.manual_seed(1)
    expected = random.Random(1).random(), torch.rand(3, generator=torch.Generator().manual_seed(1))
    try:
        hs.fit("simclr", shards=shards, steps=1, run=tmp_path / "run", overrides=SMALL)
        assert [signal.getsignal(number) for number in numbers] == [handler] * 4
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    assert (logging.getLogger("pytorch_lightning").level, torch.get_num_threads()) == (level, threads)
    assert random.random() == expected[0]
    assert torch.equal(torch.rand(3), expected[1])


def test_a_mapping_trains_what_the_recipe_does_and_a_run_resumes(shards: Path, run: hs.Run, tmp_path: Path) -> None:
    nested: dict[str, Any] = {"base": "simclr", "trainer": {"steps": 1}, "data": {"shards": [shards]}}
    first = hs.fit(nested, run=tmp_path / "two", overrides=SMALL)
    again = hs.fit(resume=first, steps=2)
    assert again.folder == first.folder
    one, two = (load_checkpoint(Path(done))["state_dict"] for done in (run, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_fit_runs_in_another_thread(shards: Path, tmp_path: Path) -> None:
    done: list[hs.Run] = []
    options = {"shards": [str(shards)], "steps": 1, "run": tmp_path / "run", "overrides": SMALL}
    thread = threading.Thread(target=lambda: done.append(hs.fit("simclr", **options)))
    thread.start()
    thread.join()
    assert done[0].metrics()[-1]["step"] == 1.0


def test_without_a_name_a_run_gets_a_folder_of_its_own(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = hs.fit("simclr", shards=shards, steps=1, overrides=SMALL)
    assert done.folder.parent == tmp_path / "runs"
    assert done.folder.name.startswith("simclr-")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"trainer.step": 1}, "trainer.step=1: there is no config key 'trainer.step' (did you mean 'trainer.steps'?)"),
        (
            {"trainer.log_every": "2 days"},
            "trainer.log_every='2 days': trainer.log_every: Value '2 days' of type 'str' could not be converted",
        ),
        ({"trainer.threads": None}, "trainer.threads=None gives no value; leave trainer.threads out for its default"),
        ({"data.batch_size": torch.tensor(8)}, "data.batch_size=tensor(8) has a value of type Tensor; give a number, a text, a list"),
        ({"./net.py:Net.width": 3}, "'./net.py:Net.width' is not a key of overrides; give dotted keys such as 'trainer.steps'"),
        ({"name": "${oc.env:HOME}"}, "name='${oc.env:HOME}': '${oc.env:HOME}' is refused: only references to other keys"),
        ({"trainer.steps": 3}, "trainer.steps is given twice, by steps and in overrides; leave one out"),
        ({"trainer.devices": 2}, "trainer.devices=2 and trainer.nodes=1 ask for 2 processes, and fit starts one; start the program with"),
    ],
)
def test_fit_refuses_overrides_that_no_config_has(overrides: Mapping[str, Any], line: str, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(line)):
        hs.fit("simclr", shards=shards, steps=2, run=tmp_path / "run", overrides=SMALL | dict(overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "give either a recipe to start a run or resume=RUN to resume one"),
        ({"recipe": "simclr", "resume": "run"}, "give either a recipe to start a run or resume=RUN to resume one"),
        ({"resume": "run", "run": "other"}, "run='other' is given with resume; a run resumes in its own folder: leave run out"),
        ({"recipe": {"seed": {1, 2}}}, "the config has a value of type set; give a number, a text, a list or a mapping"),
    ],
)
def test_fit_refuses_arguments_that_contradict_each_other(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(line)):
        hs.fit(**options)


def same_line(call: Any, command: Any, arguments: list[str], kinds: type[ValueError] | type[OSError]) -> None:
    """Assert that a verb raises the line that its command ends with."""
    with pytest.raises((ValueError, OSError)) as of_command:
        command(arguments)
    with pytest.raises(kinds) as of_verb:
        call()
    assert str(of_verb.value) == message(of_command.value)
    assert "\n" not in str(of_verb.value)


def test_errors_have_the_line_of_the_command(run: hs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    same_line(lambda: hs.fit("simcrl"), fit_command, ["--config", "simcrl"], ValueError)
    same_line(lambda: hs.fit("simclr", shards="none"), fit_command, ["--config", "simclr", "data.shards=none"], ValueError)
    same_line(lambda: hs.fit(resume="none"), fit_command, ["--resume", "none"], ValueError)
    same_line(
        lambda: hs.evaluate(run, tasks="none"), evaluate_command, ["--module", str(run), "--tasks", "none", "--out", "scores"], ValueError
    )
    named = {"name": "hear_mine", "version": "0.1", "weights_url": ADDRESS}
    options = ["--name", "hear_mine", "--version", "0.1", "--weights-url", ADDRESS, "--out", "dist"]
    same_line(lambda: hs.package("none", **named), package_command, ["--checkpoint", "none", *options], ValueError)
    other = [*options[:1], "torch", *options[2:]]
    same_line(lambda: hs.package(run, **named | {"name": "torch"}), package_command, ["--checkpoint", str(run), *other], ValueError)
    same_line(lambda: hs.verify("none.whl"), verify_command, ["none.whl"], ValueError)
    (tmp_path / "file").touch()
    same_line(
        lambda: hs.fit("simclr", shards="none", run="file/run"),
        fit_command,
        ["--config", "simclr", "data.shards=none", "run=file/run"],
        ValueError,
    )


def test_an_error_has_no_password_of_an_address() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9") as error:
        hs.load("ftp://me:hunter2@127.0.0.1:9/w.safetensors")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [({"grid": "quick"}, "grid is 'quick'; give official or fast"), ({"seeds": 0}, "seeds is 0; it must be a whole number")],
)
def test_evaluate_refuses_what_its_command_does(run: hs.Run, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match="^" + line):
        hs.evaluate(run, tasks="tasks", **options)


@pytest.mark.slow
def test_package_writes_a_wheel_and_weights_that_load_with_their_manifest(run: hs.Run, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2, generator=torch.Generator().manual_seed(3))
    out = tmp_path / "dist"
    wheel = hs.package(run, name="hear_mine", version="0.1.0", weights_url=ADDRESS, allow_unpublished=True, out=out)
    assert torch.equal(torch.rand(2), expected)
    assert wheel == out / "hear_mine-0.1.0-py3-none-any.whl"
    waveform = torch.rand(2, 16000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(hs.load(out / "hear_mine-0.1.0.safetensors").scene(waveform), hs.load(run).scene(waveform))
    composed = {"scene": ["pooled", "bands"], "scene.0.how": "mean"}
    other = hs.package(
        run, name="hear_mine", version="0.2.0", weights_url=ADDRESS, allow_unpublished=True, out=out, composition=composed, half=True
    )
    assert hs.load(other.with_name("hear_mine-0.2.0.json")).scene_embedding_size > hs.load(run).scene_embedding_size


def test_package_refuses_keys_that_are_none_of_an_embedding(run: hs.Run) -> None:
    with pytest.raises(ValueError, match=r"^composition has the key 'encoder'; give scene, timestamp, timestamps_per_token, or an option"):
        hs.package(run, name="hear_mine", version="0.3.0", weights_url=ADDRESS, composition={"encoder": "vit"})


def test_verify_refuses_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.safetensors do not exist; give the .safetensors file"):
        hs.verify("torch", weights=tmp_path / "none.safetensors")


def test_all_names_are_there_and_no_other() -> None:
    assert set(hs.__all__) <= set(dir(hs))
    for name in hs.__all__:
        if name not in ("__version__", "objectives"):
            assert getattr(hs, name).__doc__
    with pytest.raises(AttributeError, match="module 'hear_ssl' has no attribute 'train'"):
        hs.train  # type: ignore[attr-defined]  # noqa: B018
    assert json.dumps(hs.__version__)
