"""Voices of Festival and of recordings: words in the script of a language, speech without silence, folders written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.synthesis import festival_voices
from hear_ssl.synthesis.__main__ import main
from hear_ssl.synthesis.engines import SAMPLE_RATE as RATE
from hear_ssl.synthesis.festival_voices import (
    PIECES_PER_VOICE,
    VOICES,
    Job,
    check_festival,
    cut_speech,
    draw_word,
    encode_opus,
    festival_script,
    list_speech,
    trim_speech,
    write_voices,
)
from tests.synthesis.measure import tone


def test_words_have_the_script_of_their_language() -> None:
    for language in VOICES:
        text = draw_word(language, np.random.default_rng(0))
        assert text.isascii() == (language not in ("ru", "hi", "te"))


def test_silence_is_trimmed_and_a_voice_without_speech_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    around = np.concatenate([np.zeros(800, np.float32), tone(220.0, 0.2), np.full(800, 0.01, np.float32)])
    assert len(trim_speech(around)) == pytest.approx(0.2 * RATE, abs=50)
    monkeypatch.setattr(festival_voices, "TRIES", 1)
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="remove them from the list"):
        list(cut_speech([str(tmp_path / "a.wav")], np.random.default_rng(0)))


@pytest.fixture
def speech(tmp_path: Path) -> str:
    """Write a list of four recordings of two speakers of one source, and of a source that is not speech."""
    lines = []
    for name, source in (
        ("en/1", "asterisk-core-sounds-en"),
        ("en/2", "asterisk-core-sounds-en"),
        ("fr/1", "asterisk-core-sounds-en"),
        ("x", "zoo"),
    ):
        file = tmp_path / "audio" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, tone(220.0, 3.0), RATE)
        lines.append(json.dumps({"path": str(file), "license": "CC-BY-3.0", "source": source}))
    (tmp_path / "speech.jsonl").write_text("\n".join(lines))
    return str(tmp_path / "speech.jsonl")


def test_the_speaker_with_most_recordings_stands_for_a_source(speech: str, tmp_path: Path) -> None:
    assert list_speech(speech) == {"asterisk-core-sounds-en": [str(tmp_path / f"audio/en/{number}.wav") for number in (1, 2)]}
    assert list_speech("") == {}


def test_pieces_of_speech_have_their_length_and_number(speech: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(festival_voices, "PIECES_PER_VOICE", 5)
    cut = list(cut_speech(list_speech(speech)["asterisk-core-sounds-en"], np.random.default_rng(0)))
    assert len(cut) == 5
    assert all(0.3 <= soundfile.info(io.BytesIO(piece)).duration <= 1.35 for piece in cut)
    assert PIECES_PER_VOICE == 250


def test_a_script_says_every_word_into_its_file() -> None:
    job = Job("ked_diphone", ["baba", "dodo"], [0.6, 1.2], [])
    script = festival_script(job, [Path("0.wav"), Path("1.wav")], first=1)
    assert script.splitlines()[:2] == ["(voice_ked_diphone)", "(Parameter.set 'Duration_Stretch 1.200)"]
    assert '"dodo"' in script
    assert "baba" not in script


@pytest.fixture
def no_festival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Festival by tones; the second word of a job fails."""

    def say(job: Job) -> list[bytes]:
        return [b"" if number == 1 else encode_opus(tone(300.0, 0.4 * stretch)) for number, stretch in enumerate(job.stretches)]

    def in_this_process(work: Callable[[Job], list[bytes]], jobs: list[Job], workers: int) -> list[list[bytes]]:
        return [say(job) for job in jobs]

    monkeypatch.setattr(festival_voices, "check_festival", lambda: None)
    monkeypatch.setattr(festival_voices, "in_order", in_this_process)
    monkeypatch.setattr(festival_voices, "PIECES_PER_VOICE", 3)


@pytest.mark.usefixtures("no_festival")
def test_the_folder_has_words_by_voices_and_pieces_of_speech(speech: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "said"
    assert main(["voices", "--out", str(out), "--words", "3", "--seed", "1", "--recordings", speech]) == 0
    assert len((out / "it" / "words.txt").read_text().splitlines()) == 3
    assert sorted(file.name for file in (out / "it" / "lp_diphone").iterdir()) == ["0000.ogg", "0002.ogg"]
    assert sorted(file.name for file in (out / "asterisk-core-sounds-en" / "voice").iterdir()) == ["0000.ogg", "0001.ogg", "0002.ogg"]
    assert "26 words in" in capsys.readouterr().out
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.usefixtures("no_festival")
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(festival_voices, "write_words", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_voices(tmp_path / "said", words=2)
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileExistsError, match="exists: give another folder"):
        write_voices(tmp_path)
    with pytest.raises(ValueError, match="0 words cannot be rendered"):
        write_voices(tmp_path / "said", words=0)
    with pytest.raises(ValueError, match="seed -1 is negative"):
        write_voices(tmp_path / "said", seed=-1)
    with pytest.raises(ValueError, match="is not a file"):
        write_voices(tmp_path / "said", recordings=str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="festival is not installed"):
        write_voices(tmp_path / "said")
    assert list(tmp_path.iterdir()) == []


def festival_lacks() -> str:
    """Return what is missing to run Festival with all voices, "" for nothing."""
    try:
        check_festival()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_festival_says_words_of_every_language(tmp_path: Path) -> None:
    if lacks := festival_lacks():
        pytest.skip(lacks)
    failed = write_voices(tmp_path / "said", words=2, seed=3, workers=2)
    files = sorted((tmp_path / "said").rglob("*.ogg"))
    assert len(files) == 26 - failed > 20
    assert all(0.05 < soundfile.info(file).duration < 5.0 for file in files)
    assert {file.parent.parent.name for file in files} == set(VOICES)
