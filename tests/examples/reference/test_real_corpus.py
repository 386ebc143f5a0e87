"""The list of the corpus: every audio file with its package and licence, and no test data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
COPYRIGHT = "Format: DEP-5\n\nFiles: *\nLicense: GPL-2+\n\nFiles: b\nLicense: CC0-1.0\n"


def run_script(audio: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the script and return how it ended."""
    command = [sys.executable, "-m", "examples.reference.real_corpus", audio, out]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_audio_is_listed_with_its_licence_and_test_data_is_left_out(tmp_path: Path) -> None:
    for package in ("supertux-data", "ktuberling-data", "0ad-data", ".minetest-data.part"):
        (tmp_path / package / "doc").mkdir(parents=True)
        (tmp_path / package / "doc" / "copyright").write_text(COPYRIGHT)
        (tmp_path / package / "b.OGG").touch()
        (tmp_path / package / "a.wav").touch()
    done = run_script(tmp_path, tmp_path / "corpus.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["left out: 0ad-data", "left out: ktuberling-data"]
    lines = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert lines == [
        {"path": str(tmp_path / "supertux-data" / name), "license": "CC0-1.0 AND GPL-2+", "source": "supertux-data"}
        for name in ("a.wav", "b.OGG")
    ]


def test_a_folder_without_audio_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    for audio, line in ((tmp_path, "has no audio to train on; fetch it"), (tmp_path / "none", "is not a folder; fetch the audio first")):
        done = run_script(audio, tmp_path / "corpus.jsonl")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert line in done.stderr
        assert not (tmp_path / "corpus.jsonl").exists()
