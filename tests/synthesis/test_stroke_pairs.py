"""Strokes of the reference model's corpus: every kind sounds, the same seed gives the same pair, recordings are found by their names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.synthesis.stroke_pairs import LONGEST_SECONDS, encode, entries, recordings
from hear_ssl.synthesis.strokes import KINDS, RATE, Kit, Stroke, render


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_sounds_from_its_smallest_to_its_largest(kind: str) -> None:
    for place in (0.0, 1.0):
        stroke, rng = Stroke(kind, np.full(3, place), 1.0), np.random.default_rng(int(place))
        sound = render(stroke, Kit(seed=0, tuning=float(np.exp(0.2)), ringing=1.0, electronic=place), rng, RATE // 2)
        assert sound.shape == (RATE // 2,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0.1


def test_a_pair_is_a_function_of_its_seed_and_number() -> None:
    pairs = [encode((15, number, "", "CC0-1.0")) for number in (3, 3, 4)]
    assert pairs[0] == pairs[1] != pairs[2]
    waveforms = [soundfile.read(io.BytesIO(clip.audio))[0] for clip in pairs[0]]
    assert [clip.record["pair"] for clip in pairs[0]] == ["strokes15-000003b", "strokes15-000003a"]
    assert all(0.1 * RATE < len(waveform) <= LONGEST_SECONDS * RATE and np.abs(waveform).max() > 0.05 for waveform in waveforms)
    assert waveforms[0].shape != waveforms[1].shape or not np.allclose(*waveforms)


def test_recordings_are_known_by_the_names_of_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {
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
    for name, source in places.items():
        path = tmp_path / f"{name}.wav"
        if name == "bad1":
            path.write_bytes(b"RIFF")
        else:
            soundfile.write(path, np.tile(sound, 3) if name == "long1" else sound, RATE)
        lines.append(json.dumps({"path": str(path), "source": source, "license": "CC0-1.0"}))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines))
    assert "asterisk-core" not in {entry["source"] for entry in entries(str(corpus))}
    found = recordings(str(corpus))
    assert {name: len(files) for name, files in found.items()} == {"kick": 1, "growl": 2}
    assert "left out" in capsys.readouterr().err
