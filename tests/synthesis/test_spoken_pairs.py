"""The corpus of words: the same seed gives the same pair, pairs share a word or a voice, and folders of voices are checked."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis import spoken_pairs
from hear_ssl.synthesis.__main__ import main
from hear_ssl.synthesis.engines import SAMPLE_RATE as RATE
from hear_ssl.synthesis.espeak_voices import Voice
from hear_ssl.synthesis.festival_voices import WORDS, encode_opus, word_file
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.spoken_pairs import (
    LONGEST_SECONDS,
    WordPair,
    finish_clip,
    recorded_voice,
    recorded_word,
    render_clips,
    same_voice,
    same_word,
    write_corpus,
)
from tests.synthesis.measure import tone

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Write a folder of two voices that say two words, 220 and 330 Hz and their octaves, and a voice whose words are unknown."""
    for voice, hertz in (("it/low", 220), ("it/high", 440), ("asterisk/voice", 110)):
        folder = tmp_path / voice
        folder.mkdir(parents=True)
        for number, ratio in enumerate((1.0, 1.5)):
            (folder / word_file(number)).write_bytes(encode_opus(tone(hertz * ratio, 0.4 + 0.2 * number)))
    (tmp_path / "it" / WORDS).write_text("baba\ndodo")
    return tmp_path


def test_a_pair_of_a_recorded_voice_is_a_function_of_its_seed_and_number(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_pairs, "RECORDED_SHARE", 1.0)
    pairs = [render_clips(WordPair(3, number, "voice", 0.4, str(said))) for number in (5, 5, 6)]
    assert pairs[0] == pairs[1] != pairs[2]
    waveforms = [soundfile.read(io.BytesIO(clip.audio))[0] for clip in pairs[0]]
    assert all(0.1 * RATE < len(waveform) <= (LONGEST_SECONDS + 0.6) * RATE and np.abs(waveform).max() > 0.05 for waveform in waveforms)
    assert "festival" in pairs[0][0].record["source"]


def test_a_voice_says_two_words_and_a_word_is_said_by_two_voices(said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_pairs, "speak", lambda text, voice: tone(5000.0, 1.0))
    for seed in range(8):
        lengths = sorted(len(one) / RATE for one in recorded_voice(str(said), np.random.default_rng(seed)))
        assert lengths[1] / lengths[0] == pytest.approx(1.5, rel=0.08)  # the words of a voice last .4 and .6 s, the tract moves by 3 %
        clips = recorded_word(str(said), np.random.default_rng(seed))
        pitches = [np.abs(np.fft.rfft(one)).argmax() / len(one) * RATE for one in clips]
        assert len(clips) == 2
        assert (
            1.4 < max(pitches) / min(pitches) < 2.8 or max(pitches) == 5000.0
        )  # an octave apart, each with a tract of its own, or espeak-ng's


def test_a_pair_of_espeak_shares_the_word_or_the_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, Voice]] = []

    def speak(text: str, voice: Voice) -> Array:
        said.append((text, voice))
        return tone(300.0, 0.5)

    monkeypatch.setattr(spoken_pairs, "speak", speak)
    same_word(0.0, np.random.default_rng(0))
    (text, voice), (other_text, other_voice) = said
    assert text == other_text
    assert voice.name.split("+")[0] == other_voice.name.split("+")[0]
    assert voice != other_voice
    said.clear()
    same_voice(0.0, np.random.default_rng(0))
    (text, voice), (other_text, other_voice) = said
    assert text != other_text
    assert (voice.name, voice.tract) == (other_voice.name, other_voice.tract)
    assert abs(voice.pitch - other_voice.pitch) <= 10


def test_a_clip_has_its_level_length_and_noise() -> None:
    for seed in range(20):
        clip = finish_clip(tone(300.0, 2.0), 0.3, 0.0, np.random.default_rng(seed))
        assert LONGEST_SECONDS * RATE <= len(clip) <= (LONGEST_SECONDS + 0.6) * RATE
        assert 0.1 <= np.abs(clip).max() <= 0.9
        assert np.abs(clip).min() < 0.05
    plain, room = (finish_clip(tone(300.0, 0.5), 0.3, rooms, np.random.default_rng(1)) for rooms in (0.0, 1.0))
    assert plain.shape == room.shape
    assert not np.allclose(plain, room, atol=0.01)


@needs_espeak
def test_the_command_writes_shards(tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert main(["words", "--out", str(tmp_path / out), "--clips", "4", "--seed", "5", "--rooms", "0.5", "--workers", "1"]) == 0
    assert (tmp_path / "one" / "train-000000.tar").read_bytes() == (tmp_path / "two" / "train-000000.tar").read_bytes()
    assert [(source.name, source.clips) for source in read_index(tmp_path / "one").sources] == [("espeak-ng", 4)]


@needs_espeak
def test_a_corpus_with_recorded_voices_names_their_sources(said: Path, tmp_path: Path) -> None:
    index = read_index(write_corpus(tmp_path / "shards", clips=4, keep="voice", voices=str(said)))
    assert "festival" in index.sources[0].name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clips", "7"], "give an even number"),
        (["--seed", "-1"], "seed -1 is negative"),
        (["--rooms", "1.5"], "rooms is 1.5; give the share"),
        (["--rooms", "nan"], "rooms is nan; give the share"),
        (["--keep", "speaker"], "invalid choice: 'speaker'"),
        (["--voices", "nowhere"], "nowhere lacks words or voices; make such a folder by hear-ssl synth voices"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        main(["words", "--out", str(tmp_path / "shards"), *arguments])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="the program espeak-ng is not installed; install it"):
        write_corpus(tmp_path / "shards", clips=2)
