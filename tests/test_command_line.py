"""The command `hear-ssl`: what it lists, what it loads, and how it answers mistakes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import hear_ssl
from hear_ssl.__main__ import COMMANDS, command, overview

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"synth", "pack", "merge", "reindex", "pairs", "fit", "runs", "config", "evaluate", "report", "tasks"}
NAMES |= {"package", "verify", "publish", "embed", "foreign"}
HEAVY = "('torch', 'numpy', 'omegaconf', 'pytorch_lightning')"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hear_ssl", *arguments], capture_output=True, text=True)


def test_without_a_command_it_lists_all_of_them() -> None:
    done = run()
    assert done.returncode == 0
    assert not done.stderr
    listed = {line.split()[0] for line in done.stdout.partition("commands:\n")[2].partition("\n\n")[0].splitlines()}
    assert listed == NAMES == set(COMMANDS)
    assert run("--help").stdout == done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_a_main_that_reads_the_arguments_it_is_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(COMMANDS[name][0]).main
    assert inspect.signature(main).parameters["arguments"].default is None
    with pytest.raises((SystemExit, ValueError)) as ended:
        main(["--no-such-option"])
    assert ended.type is ValueError or ended.value.code == 2  # type: ignore[union-attr]
    assert f"hear-ssl {name}" in f"{ended.value}{capsys.readouterr().err}"


def test_an_unknown_command_is_one_line_with_the_nearest_one() -> None:
    done = run("evalute", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no command 'evalute' (did you mean 'evaluate'?); give one of synth, pack")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert overview("--version") == 0
    assert capsys.readouterr().out == f"hear_ssl {hear_ssl.__version__}\n"
    assert 'version = { attr = "hear_ssl.version.__version__" }' in (ROOT / "pyproject.toml").read_text()
    assigned = [path.name for path in (ROOT / "hear_ssl").rglob("*.py") if "\n__version__ =" in path.read_text()]
    assert assigned == ["version.py"]


@pytest.mark.parametrize("code", ["import hear_ssl", "from hear_ssl.__main__ import command; command(['--help'])()"])
def test_package_and_overview_load_nothing_large_and_take_less_than_a_tenth_of_a_second(code: str) -> None:
    measured = f"import sys, time; start = time.process_time(); {code}; seconds = time.process_time() - start\n"
    report = f"print(); print(seconds, *[name for name in {HEAVY} if name in sys.modules])"
    answers = [subprocess.check_output([sys.executable, "-c", measured + report], text=True).splitlines()[-1].split() for _ in range(3)]
    assert [loaded for _, *loaded in answers] == [[], [], []]
    assert min(float(seconds) for seconds, *_ in answers) < 0.1


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"fit"}))
def test_help_of_a_command_loads_no_torch(name: str) -> None:
    code = f"import sys; from hear_ssl.__main__ import command; run = command(['{name}', '--help'])\n"
    code += "try: run()\nexcept SystemExit as ended: print(ended.code, 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).endswith("0 False\n")


@pytest.mark.parametrize(
    ("script", "name"),
    [("train/fit.py", "fit"), ("export/package.py", "package"), ("export/verify.py", "verify"), ("export/publish.py", "publish")],
)
def test_scripts_call_the_function_of_their_command(script: str, name: str) -> None:
    source = (ROOT / script).read_text()
    assert f"from {COMMANDS[name][0]} import main" in source
    assert "run_main(main)" in source


def test_a_command_is_given_the_arguments_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    command(["tasks", "list"])()
    assert "dcase2016_task2" in capsys.readouterr().out


def test_evaluate_is_a_command_and_not_a_module_to_import() -> None:
    done = subprocess.run([sys.executable, "-m", "hear_ssl.evaluate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "hear-ssl evaluate" in done.stdout
    with pytest.raises(ImportError, match=r"hear_ssl\.evaluate is a function"):
        importlib.import_module("hear_ssl.evaluate")


MANY = "print('line\\n' * 100000)"
OTHER = "raise BrokenPipeError(32, 'a worker has ended')"


@pytest.mark.parametrize(
    ("main", "read", "status", "line"), [(MANY, False, 141, ""), (OTHER, True, 2, "error: [Errno 32] a worker has ended\n")]
)
def test_a_command_whose_reader_has_ended_ends_without_a_word(main: str, read: bool, status: int, line: str) -> None:
    script = f"from hear_ssl.errors import run_main\ndef main():\n    {main}\nrun_main(main)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not read:
        process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == line
    assert process.wait(60) == status
    process.stdout.close()
    process.stderr.close()
