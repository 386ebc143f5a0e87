"""Render the corpus of spoken words: invented words by voices of espeak-ng, as pairs in WebDataset shards.

A pair shares the word and its language and nothing else: voice, pitch, speed, vocal tract, level and noise are drawn for each clip. With
keep="voice" it shares the voice and the filter, and pitch and speed approximately, but not the word. Words have one to four syllables
in a language that is drawn for the pair. With a folder of voices (see `festival_voices`) half of the pairs have a voice of that
folder: two of them say a word, or one of them and one of espeak-ng; with keep="voice" one of them says two words.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis.command import Command, add_clips_option, add_output_options
from hear_ssl.synthesis.engines import SAMPLE_RATE
from hear_ssl.synthesis.espeak_voices import LANGUAGES, check_espeak, draw_voice, draw_word, scale_tract, speak
from hear_ssl.synthesis.festival_voices import WORDS, word_file
from hear_ssl.synthesis.pair_shards import Format, Origin, check_request, describe, encode_pair, render_in_order, write_pairs
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recording_chain import record

LONGEST_SECONDS = 1.2
TRIES = 20  # voices that are tried for a word
KEEPS = ("word", "voice")
SOURCE, LICENSE = "espeak-ng", "GPL-3.0-or-later"  # of the program and its voices, whose output the clips are
RECORDED_SOURCE = "espeak-ng, festival, asterisk-core-sounds, asterisk-prompt-it-menardi"
RECORDED_LICENSE = (  # of the programs, their voices and the recordings
    "GPL-3.0-or-later AND GPL-2.0-or-later AND LGPL-2.1-or-later AND BSD-3-Clause AND CC-BY-3.0 AND CC-BY-SA-3.0"
)
RECORDED_SHARE = 0.5


@dataclass(frozen=True)
class WordPair:
    """Pair `number` of a corpus: a function of its fields and of the files in the folder `voices` ("" for none).

    keep: what the pair shares, "word" or "voice". rooms: the share of clips with a room and filters, 0 to 1.
    """

    seed: int
    number: int
    keep: str = "word"
    rooms: float = 0.0
    voices: str = ""


@functools.cache
def list_voices(folder: str) -> dict[str, dict[str, list[Path]]]:
    """Return {language: {voice: files in order}} of a folder by `festival_voices`."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(dict)
    for voice in sorted(path for path in Path(folder).glob("*/*") if path.is_dir()):
        found[voice.parent.name][voice.name] = sorted(voice.glob("*.ogg"))
    return dict(found)


@functools.cache
def list_words(folder: str) -> dict[str, list[str]]:
    """Return {language: words in order} of a folder by `festival_voices`."""
    return {file.parent.name: file.read_text().splitlines() for file in sorted(Path(folder).glob(f"*/{WORDS}"))}


def check_voices(folder: str, keep: str) -> None:
    """Raise ValueError unless the folder has words by voices and, to keep a voice, two clips of each voice."""
    voices, words = list_voices(folder), list_words(folder)
    few = any(len(files) < 2 for speakers in voices.values() for files in speakers.values())
    if not words or not words.keys() <= voices.keys() or (few and keep == "voice"):
        raise ValueError(f"{folder} lacks words or voices; make such a folder by hear-ssl synth voices --out {folder}")


def read_word(file: str, tract: float) -> Array:
    """Return a clip of a recorded voice with its vocal tract scaled by `tract` (time,)."""
    waveform, rate = soundfile.read(file, dtype="float32")
    return scale_tract(waveform, rate, tract)


def recorded_word(folder: str, rng: np.random.Generator) -> list[Array]:
    """Return a word by two recorded voices, or by one and one of espeak-ng (time,); fewer when Festival could not say it."""
    words, voices = list_words(folder), list_voices(folder)
    language = str(rng.choice([language for language in words for _ in voices[language]]))
    number = int(rng.integers(len(words[language])))
    files = [Path(folder) / language / voice / word_file(number) for voice in voices[language]]
    chosen = rng.permutation(np.array([str(file) for file in files if file.exists()]))[:2]
    if len(chosen) == 2 and rng.random() < 0.3:
        chosen = chosen[:1]
    clips = [read_word(file, draw_voice(language, rng).tract) for file in chosen]
    return clips if len(clips) == 2 else [*clips, speak(words[language][number], draw_voice(language, rng))]


def recorded_voice(folder: str, rng: np.random.Generator) -> list[Array]:
    """Return two words by one recorded voice, vocal tracts within 3 % (time,)."""
    speakers = [files for voices in list_voices(folder).values() for files in voices.values()]
    files = speakers[int(rng.integers(len(speakers)))]
    tract = draw_voice("", rng).tract
    return [read_word(file, tract * float(rng.uniform(0.97, 1.03))) for file in rng.choice([*map(str, files)], 2, replace=False)]


def finish_clip(waveform: Array, tilt: float, rooms: float, rng: np.random.Generator) -> Array:
    """Return a word with a spectral tilt, up to 0.3 s of silence on both sides, and noise and a level, or in a room (time,)."""
    waveform = waveform[: round(LONGEST_SECONDS * SAMPLE_RATE)]
    tilted = waveform + tilt * np.concatenate([np.zeros(1, np.float32), waveform[:-1]])
    before, after = rng.integers(0, round(0.3 * SAMPLE_RATE), 2)
    padded = np.concatenate([np.zeros(before), tilted / np.abs(tilted).max(), np.zeros(after)])
    if rooms and rng.random() < rooms:
        return record(padded, rng)
    noisy = padded + rng.standard_normal(len(padded)) * 10.0 ** rng.uniform(-4.0, -1.7)
    return np.asarray(noisy / np.abs(noisy).max() * rng.uniform(0.1, 0.9), dtype=np.float32)


def same_word(rooms: float, rng: np.random.Generator) -> list[Array]:
    """Return a word by two voices of espeak-ng (time,)."""
    text, language = draw_word(rng), str(rng.choice(LANGUAGES))
    clips: list[Array] = []
    while len(clips) < 2:
        waveform = next((one for _ in range(TRIES) if len(one := speak(text, draw_voice(language, rng)))), None)
        if waveform is None:  # no voice of the language says it
            return same_word(rooms, rng)
        clips.append(finish_clip(waveform, rng.uniform(-0.6, 0.6), rooms, rng))
    return clips


def same_voice(rooms: float, rng: np.random.Generator) -> list[Array]:
    """Return two words by a voice of espeak-ng (time,)."""
    voice, tilt = draw_voice(str(rng.choice(LANGUAGES)), rng), rng.uniform(-0.6, 0.6)
    clips: list[Array] = []
    while len(clips) < 2:
        waveform = speak(draw_word(rng), voice.vary(rng))
        if len(waveform):
            clips.append(finish_clip(waveform, tilt, rooms, rng))
    return clips


def recorded_pair(pair: WordPair, rng: np.random.Generator) -> list[Array]:
    """Return a pair with a recorded voice (time,)."""
    draw, tilt = recorded_voice if pair.keep == "voice" else recorded_word, rng.uniform(-0.6, 0.6)
    dry = draw(pair.voices, rng)
    while len(dry) < 2 or not all(map(len, dry)):
        dry = draw(pair.voices, rng)
    return [finish_clip(waveform, tilt if pair.keep == "voice" else rng.uniform(-0.6, 0.6), pair.rooms, rng) for waveform in dry]


def origin_of(voices: str) -> Origin:
    """Return source and licence of a corpus with a folder of voices, or with "" for none."""
    return Origin(RECORDED_SOURCE, RECORDED_LICENSE) if voices else Origin(SOURCE, LICENSE)


def render_clips(pair: WordPair) -> list[EncodedClip]:
    """Return the two encoded clips of a pair."""
    rng = np.random.default_rng([pair.seed, pair.number])
    if pair.voices and rng.random() < RECORDED_SHARE:
        first, second = recorded_pair(pair, rng)
    else:
        first, second = (same_voice if pair.keep == "voice" else same_word)(pair.rooms, rng)
    return encode_pair(f"spoken{pair.seed}-{pair.number:06d}", (first, second), Format(SAMPLE_RATE), origin_of(pair.voices))


def write_corpus(
    out: str | os.PathLike[str],
    clips: int = 24000,
    seed: int = 13,
    keep: str = "word",
    rooms: float = 0.0,
    voices: str = "",
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Render `clips` clips as shards with an index; returns the path of the index.

    keep: what a pair shares, "word" or "voice". rooms: the share of clips with a room and filters, 0 to 1. voices: a folder by
    `festival_voices`, "" for none. Raises ValueError on an argument out of range or when espeak-ng is not installed, FileExistsError
    when `out` holds shards, OSError when the disk is full.
    """
    check_request(Path(out), clips, seed, workers)
    if keep not in KEEPS:
        raise ValueError(f"keep is {keep!r}; give one of {', '.join(KEEPS)}")
    if not 0.0 <= rooms <= 1.0:
        raise ValueError(f"rooms is {rooms}; give the share of clips with a room, 0 to 1")
    if voices:
        check_voices(voices, keep)
    check_espeak()
    pairs = (WordPair(seed, number, keep, rooms, voices) for number in range(clips // 2))
    rendered = render_in_order(render_clips, pairs, workers)
    return write_pairs(Path(out), rendered, clips, Format(SAMPLE_RATE), origin_of(voices), progress)


DESCRIPTION = f"""\
Render invented words of 1 to 4 syllables by voices of espeak-ng in {len(LANGUAGES)} languages, at 16000 Hz.
Words last at most 1.2 s, clips at most 1.8 s.

What the two clips of a pair share (--keep):
  word   the word and the language; voice, pitch, speed, vocal tract, level and noise differ
  voice  the voice and the filter; the words differ, pitch by up to 10 of 100 steps, speed by up to 20 %

With --voices half of the pairs have voices made of recorded speech. Needs the program espeak-ng
(Debian: apt-get install espeak-ng). 1000 clips, about 0.25 hours, take about 15 s on one core.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this kind to the command line."""
    add_output_options(parser, seed=13)
    add_clips_option(parser, clips=24000)
    parser.add_argument("--keep", choices=KEEPS, default="word", help="what a pair shares, see above (default: %(default)s)")
    parser.add_argument(
        "--rooms",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the clips, 0 to 1, with a room, filters and saturation drawn for each (default: %(default)s)",
    )
    parser.add_argument(
        "--voices", default="", metavar="FOLDER", help="folder that hear-ssl synth voices wrote; half of the pairs have its voices"
    )


def run(given: argparse.Namespace) -> None:
    """Render with the options of the command line."""
    index = write_corpus(given.out, given.clips, given.seed, given.keep, given.rooms, given.voices, given.workers, progress=True)
    print(describe(read_index(index), given.out))


COMMAND = Command(
    "invented words, each by two voices of espeak-ng, or two words by one voice",
    DESCRIPTION,
    "hear-ssl synth words --out spoken --clips 24000 --seed 13",
    add_options,
    run,
)
