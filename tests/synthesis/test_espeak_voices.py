"""Voices of espeak-ng: words without silence, vocal tracts of another length, failures in one line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from hear_ssl.synthesis.engines import SAMPLE_RATE as RATE
from hear_ssl.synthesis.espeak_voices import LANGUAGES, VARIANTS, Voice, draw_voice, draw_word, scale_tract, speak
from tests.synthesis.measure import peak_frequency, tone

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")


def test_a_longer_vocal_tract_lowers_pitch_and_lengthens_speech() -> None:
    scaled = scale_tract(tone(1000.0, 1.0, rate=22050), 22050, 1.25)
    assert len(scaled) / RATE == pytest.approx(1.25, rel=1e-3)
    assert peak_frequency(scaled) == pytest.approx(800.0, rel=1e-3)


def test_voices_and_words_are_drawn_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    voices = [draw_voice("it", rng) for _ in range(500)]
    assert {voice.name for voice in voices} == {f"it+{variant}" for variant in VARIANTS}
    assert all(10 <= voice.pitch < 90 and 110 <= voice.speed < 230 and 0.86 < voice.tract < 1.17 for voice in voices)
    assert all(abs(voice.vary(rng).pitch - voice.pitch) <= 5 for voice in voices)
    words = [draw_word(rng) for _ in range(500)]
    assert len(set(words)) > 450
    assert all(word.isascii() and word.isalpha() for word in words)


@needs_espeak
def test_a_word_begins_and_ends_with_speech_and_is_repeatable() -> None:
    voice = Voice("it+m3", pitch=50, speed=150, tract=1.0)
    word = speak("banana", voice)
    assert 0.2 * RATE < len(word) < 1.5 * RATE
    assert np.abs(word)[[0, -1]].min() > 0.01 * np.abs(word).max()
    assert np.array_equal(word, speak("banana", voice))


@needs_espeak
@pytest.mark.slow
def test_espeak_has_every_language() -> None:
    for language in LANGUAGES:
        assert len(speak("banana", Voice(f"{language}+f2", 50, 150, 1.0))) > 0.1 * RATE


@needs_espeak
def test_an_unknown_voice_is_one_error() -> None:
    with pytest.raises(OSError, match="espeak-ng failed with voice nolanguage"):
        speak("banana", Voice("nolanguage", 50, 150, 1.0))
