"""The corpus of strokes: the same seed gives the same pair, and recordings are found by their file names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis.__main__ import main
from hear_ssl.synthesis.engines import SAMPLE_RATE as RATE
from hear_ssl.synthesis.stroke_pairs import LONGEST_SECONDS, StrokePair, find_recordings, license_of, render_clips, usable_recordings


def test_a_pair_is_a_function_of_its_seed_and_number() -> None:
    pairs = [render_clips(StrokePair(15, number)) for number in (3, 3, 4)]
    assert pairs[0] == pairs[1] != pairs[2]
    waveforms = [soundfile.read(io.BytesIO(clip.audio))[0] for clip in pairs[0]]
    assert [clip.record["pair"] for clip in pairs[0]] == ["strokes15-000003b", "strokes15-000003a"]
    assert all(0.1 * RATE < len(waveform) <= LONGEST_SECONDS * RATE and np.abs(waveform).max() > 0.05 for waveform in waveforms)
    assert waveforms[0].shape != waveforms[1].shape or not np.allclose(*waveforms)


@pytest.fixture
def recordings(tmp_path: Path) -> str:
    """Write a list of seven recordings, of which a kick and two growls can be used."""
    sources = {
        "kick01": "lmms-common",
        "growl-1": "zoo",
        "growl-2": "zoo",
        "once1": "zoo",
        "long1": "zoo",
        "hello1": "asterisk-core",
        "bad1": "zoo",
    }
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    lines = []
    for name, source in sources.items():
        path = tmp_path / f"{name}.wav"
        if name == "bad1":
            path.write_bytes(b"RIFF")
        else:
            soundfile.write(path, np.tile(sound, 3) if name == "long1" else sound, RATE)
        lines.append(json.dumps({"path": str(path), "source": source, "license": "MIT AND CC-BY-4.0"}))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines))
    return str(corpus)


def test_recordings_are_found_by_their_file_names(recordings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "asterisk-core" not in {recording.source for recording in usable_recordings(recordings)}
    found = find_recordings(recordings)
    assert {name: len(files) for name, files in found.items()} == {"kick": 1, "growl": 2}
    assert "left out" in capsys.readouterr().err
    assert license_of(recordings) == "CC-BY-4.0 AND CC0-1.0 AND MIT"


def test_a_pair_with_recordings_is_a_function_of_its_seed_and_number(recordings: str) -> None:
    pairs = [render_clips(StrokePair(16, number, recordings)) for number in (0, 0, 1)]
    assert pairs[0] == pairs[1] != pairs[2]
    plain, mixed = ([render_clips(StrokePair(16, number, file)) for number in range(6)] for file in ("", recordings))
    assert plain != mixed


def test_the_command_writes_shards_with_their_licences(recordings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    assert main(["strokes", "--out", str(out), "--clips", "4", "--seed", "2", "--recordings", recordings, "--workers", "1"]) == 0
    index = read_index(out)
    assert [(source.name, source.license, source.clips) for source in index.sources] == [
        ("strokepairs.py", "CC-BY-4.0 AND CC0-1.0 AND MIT", 4)
    ]
    assert f"4 clips, 0.00 hours, 1 shard in {out}" in capsys.readouterr().out


def test_a_list_without_usable_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"path": "gone.wav", "license": "MIT", "source": "lmms-common"}))
    with pytest.raises(ValueError, match="has no usable recording"):
        main(["strokes", "--out", str(tmp_path / "shards"), "--clips", "4", "--recordings", str(tmp_path / "list.jsonl")])
    assert not (tmp_path / "shards").exists()
