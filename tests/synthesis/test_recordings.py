"""Lists of recordings: every line is checked, and a mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hear_ssl.synthesis.recordings import Recording, read_list, trim_silence


def test_a_list_gives_its_recordings_and_no_list_none(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text('{"path": "a.wav", "license": "CC0-1.0", "source": "zoo", "split": "train"}\n')
    assert read_list(str(file)) == [Recording("a.wav", "CC0-1.0", "zoo")]
    assert read_list("") == []


@pytest.mark.parametrize("line", ["a.wav", "[1, 2]", '{"path": "a.wav", "license": "CC0-1.0"}', "", "null"])
def test_a_wrong_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text('{"path": "a.wav", "license": "CC0-1.0", "source": "zoo"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"list.jsonl, line 2 is .*; each line must be an object"):
        read_list(str(file))


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list\.jsonl is not a file; give a JSON Lines list"):
        read_list(str(tmp_path / "list.jsonl"))


def test_silence_is_removed_from_both_ends_only() -> None:
    waveform = np.array([0.0, 0.01, 0.5, 0.0, -1.0, 0.04, 0.0], dtype=np.float32)
    np.testing.assert_array_equal(trim_silence(waveform, 0.05), waveform[2:5])
    assert len(trim_silence(np.zeros(10, np.float32), 0.05)) == 0
    assert len(trim_silence(np.zeros(0, np.float32), 0.05)) == 0
