"""Recorded voices of the reference model's corpus: the same seed gives the same pair, and a voice without speech is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.synthesis import spoken_pairs as spokenpairs
from hear_ssl.synthesis.festival_words import VOICES, WORDS, encoded, pieces, trimmed, word, word_file
from hear_ssl.synthesis.spoken_pairs import LONGEST_SECONDS, Pair, encode, recorded_voice, recorded_word
from hear_ssl.synthesis.strokes import RATE


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """A folder of two voices that say two words, 220 and 330 Hz and their octaves, and one that says what nobody wrote down."""
    for voice, hertz in (("it/low", 220), ("it/high", 440), ("asterisk/voice", 110)):
        folder = tmp_path / voice
        folder.mkdir(parents=True)
        for number, ratio in enumerate((1.0, 1.5)):
            (folder / word_file(number)).write_bytes(encoded(tone(hertz * ratio, 0.4 + 0.2 * number)))
    (tmp_path / "it" / WORDS).write_text("baba\ndodo")
    return tmp_path


def tone(hertz: float, seconds: float) -> np.ndarray:
    """Return a tone (time,)."""
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32) * np.float32(0.5)


def test_a_pair_of_a_recorded_voice_is_a_function_of_its_seed_and_number(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spokenpairs, "RECORDED_SHARE", 1.0)
    pairs = [encode(Pair(3, number, "voice", 0.4, str(said))) for number in (5, 5, 6)]
    assert pairs[0] == pairs[1] != pairs[2]
    waveforms = [soundfile.read(io.BytesIO(clip.audio))[0] for clip in pairs[0]]
    assert all(0.1 * RATE < len(waveform) <= (LONGEST_SECONDS + 0.6) * RATE and np.abs(waveform).max() > 0.05 for waveform in waveforms)
    assert "festival" in pairs[0][0].record["source"]


def test_a_voice_says_two_words_and_a_word_is_said_by_two_voices(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spokenpairs, "speak", lambda text, voice: tone(5000.0, 1.0))
    for seed in range(8):
        lengths = sorted(len(one) / RATE for one in recorded_voice(str(said), np.random.default_rng(seed)))
        assert lengths[1] / lengths[0] == pytest.approx(1.5, rel=0.08)  # the words of a voice last .4 and .6 s, the tract moves by 3 %
        clips = recorded_word(str(said), np.random.default_rng(seed))
        heard = [np.abs(np.fft.rfft(one)).argmax() / len(one) * RATE for one in clips]
        assert len(clips) == 2
        assert 1.4 < max(heard) / min(heard) < 2.8 or max(heard) == 5000.0  # an octave apart, each with a tract of its own, or espeak-ng's


def test_words_have_the_script_of_their_language() -> None:
    for language in VOICES:
        text = word(language, np.random.default_rng(0))
        assert text.isascii() == (language not in ("ru", "hi", "te"))


def test_silence_is_taken_off_speech_and_a_voice_without_any_is_refused(tmp_path: Path) -> None:
    around = np.concatenate([np.zeros(800, np.float32), tone(220.0, 0.2), np.full(800, 0.01, np.float32)])
    assert len(trimmed(around)) == pytest.approx(0.2 * RATE, abs=50)
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match="leave its source out"):
        pieces([str(tmp_path / "a.wav")], np.random.default_rng(0))
