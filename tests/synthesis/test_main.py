"""The command line: one line and exit status 2 for a mistake, help for every kind, nothing left by a run that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hear_ssl.synthesis.__main__ import KINDS, main, parse_arguments

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> list[str]:
    """Return the command as a user types it."""
    return [sys.executable, "-m", "hear_ssl.synthesis", *arguments]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no kind of corpus given; give one of instruments, strokes, words, voices"),
        (["stroke"], r"unknown kind 'stroke' \(did you mean 'strokes'\?\); give one of"),
        (["strokes"], "required: --out"),
        (["strokes", "--out", "x", "--size", "3"], "unrecognized arguments: --size 3"),
        (["strokes", "--out", "x", "--workers", "0"], "0 workers cannot render"),
        (["strokes", "--out", "x", "--recordings", "nowhere"], "nowhere is not a file"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)


def test_a_mistake_ends_with_status_2() -> None:
    done = subprocess.run(command(), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: no kind of corpus given")


@pytest.mark.parametrize("kind", KINDS)
def test_help_describes_a_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([kind, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "on one core" in shown
    assert "default:" in shown
    assert f"Example: hear-ssl synth {kind} --out" in shown
    assert max(map(len, KINDS[kind].description.splitlines())) <= 110


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_a_kind_is_a_valid_command(kind: str) -> None:
    words = KINDS[kind].example.split()
    assert words[:3] == ["hear-ssl", "synth", kind]
    assert parse_arguments(words[2:]).out


def test_the_help_lists_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert set(KINDS) <= set(shown.partition("kinds:")[2].split())
    assert "data.positives=pairs" in shown


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_no_shard(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    running = subprocess.Popen(
        command("strokes", "--out", str(out), "--clips", "100000", "--workers", "2"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in out.glob(".*")) and time.monotonic() < deadline:  # until clips are rendered
        time.sleep(0.1)
    assert list(out.glob(".train-000000.tar.*"))
    os.kill(running.pid, number)
    assert running.wait(30) == 130
    assert running.stderr is not None
    assert running.stderr.read().endswith("interrupted\n")
    assert list(out.iterdir()) == []
