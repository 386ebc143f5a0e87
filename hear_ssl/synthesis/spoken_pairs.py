"""Render words that nobody says, each by two voices of espeak-ng, as doppelgänger pairs for data.positives=doppelgaenger.

python -m hear_ssl.synthesis.spoken_pairs --out spoken --clips 24000 --seed 13
python -m hear_ssl.synthesis.spoken_pairs --out voices --clips 24000 --seed 17 --keep voice
python -m hear_ssl.synthesis.spoken_pairs --out spoken --clips 60000 --seed 24 --voices said

The two of a pair share the sounds of speech and nothing else: voice, pitch, speed, vocal tract, level and noise are drawn for each.
With --keep voice it is the other way round: one voice, pitch and speed moved a little, says two words through one filter.
Words of one to four syllables in a language drawn for the pair, at most 1.2 s. With --voices (what festival_words.py makes) half of the
pairs have a voice of it: two of them say a word, or one of them and one of espeak-ng; two words of one are a pair of one voice.
Needs the program espeak-ng (Debian: espeak-ng).
"""

from __future__ import annotations

import argparse
import functools
import io
import subprocess
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.shard_writer import EncodedClip, check_free, write_rendered
from hear_ssl.errors import run_main
from hear_ssl.synthesis.festival_words import WORDS, sounding, word_file
from hear_ssl.synthesis.instruments import encode_twins
from hear_ssl.synthesis.recording_chain import recorded
from hear_ssl.synthesis.strokes import RATE

LONGEST_SECONDS = 1.2
TRIES = 20  # voices that are asked to say a word
SOURCE, LICENSE = "espeak-ng", "output of espeak-ng, which is GPL-3+"
RECORDED_SOURCE = "espeak-ng, festival, asterisk-core-sounds, asterisk-prompt-it-menardi"
RECORDED_LICENSE = (
    "output of espeak-ng, which is GPL-3+, and of voices of Festival: BSD, LGPL-2.1+, GPL-2+, GPL-3+; CC-BY-3.0, CC-BY-SA-3.0, GPL-2+"
)
RECORDED_SHARE = 0.5
LANGUAGES = ("en-us", "en-gb", "es", "it", "fr-fr", "de", "pt-br", "pl", "fi", "tr", "sw", "id", "eo", "nl", "sv", "hu", "cs", "el")
VARIANTS = [*(f"m{n}" for n in range(1, 9)), *(f"f{n}" for n in range(1, 6)), *(f"klatt{n}" for n in ("", 2, 3, 4))]
VARIANTS += ["croak", "grandma", "grandpa", "whisper", "whisperf", "Alex", "Alicia", "Andrea", "Annie", "Denis", "Diogo", "Gene", "Hugo"]
VARIANTS += ["Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "boris"]
VARIANTS += ["david", "edward", "iven", "john", "linda", "max", "michel", "pablo", "paul", "quincy", "rob", "shelby", "steph", "travis"]
VARIANTS += ["victor", "zac"]
CONSONANTS = [*"bdfghjklmnprstvwyz", "ch", "sh", "st", "tr", "pl", "kr", "bl"]
VOWELS = [*"aeiou", "ai", "ei", "ou", "au"]
CODAS = ["", "", "", *"nslrtkm"]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The n-th pair of a corpus, a function of its seed, its number, what its two share ("word" or "voice"), share in rooms, voices."""

    seed: int
    number: int
    keep: str = "word"
    rooms: float = 0.0
    voices: str = ""


@dataclass(frozen=True)
class Voice:
    """Who speaks: name of a voice of espeak-ng, pitch and speed in its units, length of the vocal tract to that of the voice."""

    name: str
    pitch: int
    speed: int
    tract: float

    def moved(self, rng: np.random.Generator) -> Voice:
        """Return the voice as it says something else: a little higher or lower, faster or slower."""
        return replace(self, pitch=self.pitch + int(rng.integers(-5, 6)), speed=round(self.speed * float(rng.uniform(0.9, 1.1))))


def drawn(language: str, rng: np.random.Generator) -> Voice:
    """Return a voice of a language."""
    name = f"{language}+{rng.choice(VARIANTS)}"
    pitch, speed = int(rng.integers(10, 90)), int(rng.integers(110, 230))
    return Voice(name, pitch, speed, float(np.exp(rng.uniform(-0.15, 0.15))))  # formants and pitch together, as in a smaller or larger head


def word(rng: np.random.Generator) -> str:
    """Return a word of one to four syllables."""
    syllables = rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.25, 0.1])
    return "".join(f"{rng.choice(CONSONANTS)}{rng.choice(VOWELS)}{rng.choice(CODAS)}" for _ in range(syllables))


def speak(text: str, voice: Voice) -> Array:
    """Return the word (time,) without the silence around it; nothing where the voice has no sound for it, as a few have for some."""
    command = ["espeak-ng", "-v", voice.name, "-p", str(voice.pitch), "-s", str(voice.speed), "--stdout", text]
    file = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
    waveform, rate = soundfile.read(file, dtype="float32")
    return sounding(lengthened(waveform, rate, voice.tract), 0.01)


def lengthened(waveform: Array, rate: int, tract: float) -> Array:
    """Return speech (time,) at RATE as by a vocal tract so many times as long."""
    return np.asarray(soxr.resample(waveform, rate, RATE * tract), dtype=np.float32)


@functools.cache
def heard(folder: str) -> dict[str, dict[str, list[Path]]]:
    """Return the files of each voice of each language of what festival_words.py made, in order."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(dict)
    for voice in sorted(path for path in Path(folder).glob("*/*") if path.is_dir()):
        found[voice.parent.name][voice.name] = sorted(voice.glob("*.ogg"))
    return dict(found)


def replayed(file: str, tract: float) -> Array:
    """Return a word of a recorded voice (time,), its vocal tract so many times as long."""
    waveform, rate = soundfile.read(file, dtype="float32")
    return lengthened(waveform, rate, tract)


@functools.cache
def written(folder: str) -> dict[str, list[str]]:
    """Return the words of each language of what festival_words.py made, in order."""
    return {file.parent.name: file.read_text().splitlines() for file in sorted(Path(folder).glob(f"*/{WORDS}"))}


def recorded_word(folder: str, rng: np.random.Generator) -> list[Array]:
    """Return a word by two recorded voices, or by one and one of espeak-ng (time,); fewer where Festival failed at it."""
    texts, voices = written(folder), heard(folder)
    language = str(rng.choice([language for language in texts for _ in voices[language]]))
    number = int(rng.integers(len(texts[language])))
    files = [Path(folder) / language / voice / word_file(number) for voice in voices[language]]
    chosen = rng.permutation(np.array([str(file) for file in files if file.exists()]))[:2]
    if len(chosen) == 2 and rng.random() < 0.3:
        chosen = chosen[:1]
    clips = [replayed(file, drawn(language, rng).tract) for file in chosen]
    return clips if len(clips) == 2 else [*clips, speak(texts[language][number], drawn(language, rng))]


def recorded_voice(folder: str, rng: np.random.Generator) -> list[Array]:
    """Return two words by one recorded voice (time,)."""
    speakers = [files for voices in heard(folder).values() for files in voices.values()]
    files = speakers[int(rng.integers(len(speakers)))]
    tract = drawn("", rng).tract
    return [replayed(file, tract * float(rng.uniform(0.97, 1.03))) for file in rng.choice([*map(str, files)], 2, replace=False)]


def place(waveform: Array, tilt: float, rooms: float, rng: np.random.Generator) -> Array:
    """Return the word at a level and with noise drawn anew, its spectrum tilted, a little silence before and after; some in a room."""
    waveform = waveform[: round(LONGEST_SECONDS * RATE)]
    tilted = waveform + tilt * np.concatenate([np.zeros(1, np.float32), waveform[:-1]])
    before, after = rng.integers(0, round(0.3 * RATE), 2)
    padded = np.concatenate([np.zeros(before), tilted / np.abs(tilted).max(), np.zeros(after)])
    if rooms and rng.random() < rooms:
        return recorded(padded, rng)
    noisy = padded + rng.standard_normal(len(padded)) * 10.0 ** rng.uniform(-4.0, -1.7)
    return np.asarray(noisy / np.abs(noisy).max() * rng.uniform(0.1, 0.9), dtype=np.float32)


def one_word(rooms: float, rng: np.random.Generator) -> list[Array]:
    """Return a word by two voices (time,)."""
    text, language = word(rng), str(rng.choice(LANGUAGES))
    clips: list[Array] = []
    while len(clips) < 2:
        waveform = next((one for _ in range(TRIES) if len(one := speak(text, drawn(language, rng)))), None)
        if waveform is None:  # no voice of the language says it
            return one_word(rooms, rng)
        clips.append(place(waveform, rng.uniform(-0.6, 0.6), rooms, rng))
    return clips


def one_voice(rooms: float, rng: np.random.Generator) -> list[Array]:
    """Return two words by a voice (time,)."""
    voice, tilt = drawn(str(rng.choice(LANGUAGES)), rng), rng.uniform(-0.6, 0.6)
    clips: list[Array] = []
    while len(clips) < 2:
        waveform = speak(word(rng), voice.moved(rng))
        if len(waveform):
            clips.append(place(waveform, tilt, rooms, rng))
    return clips


def recorded_pair(pair: Pair, rng: np.random.Generator) -> list[Array]:
    """Return a pair with a recorded voice (time,)."""
    say, tilt = recorded_voice if pair.keep == "voice" else recorded_word, rng.uniform(-0.6, 0.6)
    dry = say(pair.voices, rng)
    while len(dry) < 2 or not all(map(len, dry)):
        dry = say(pair.voices, rng)
    return [place(waveform, tilt if pair.keep == "voice" else rng.uniform(-0.6, 0.6), pair.rooms, rng) for waveform in dry]


def origin(voices: str) -> tuple[str, str]:
    """Return source and licence of a corpus, with such a folder of voices or none."""
    return (RECORDED_SOURCE, RECORDED_LICENSE) if voices else (SOURCE, LICENSE)


def encode(pair: Pair) -> list[EncodedClip]:
    """Render and encode a pair as two clips, each with the key of the other."""
    rng = np.random.default_rng([pair.seed, pair.number])
    if pair.voices and rng.random() < RECORDED_SHARE:
        first, second = recorded_pair(pair, rng)
    else:
        first, second = (one_voice if pair.keep == "voice" else one_word)(pair.rooms, rng)
    source, license = origin(pair.voices)
    fields = {"source": source, "license": license, "split": "train"}
    return encode_twins(f"spoken{pair.seed}-{pair.number:06d}", (first, second), RATE, "flac", fields)


def main() -> None:
    """Render a corpus as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=24000)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--keep", choices=("word", "voice"), default="word", help="what the two of a pair share")
    parser.add_argument("--rooms", type=float, default=0.0, help="share of the clips in a room and through a filter, as strokepairs.py")
    parser.add_argument("--voices", default="", help="folder of festival_words.py, whose voices half of the pairs have")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    check_free(arguments.out)
    if arguments.voices and not heard(arguments.voices):
        raise ValueError(f"{arguments.voices} holds no voices; make them with hear_ssl/synthesis/festival_words.py")
    pairs = (Pair(arguments.seed, number, arguments.keep, arguments.rooms, arguments.voices) for number in range(arguments.clips // 2))
    clips = chain.from_iterable(in_order(encode, pairs, arguments.workers))
    bar = tqdm(clips, total=arguments.clips, unit="clip")
    write_rendered(arguments.out, bar, arguments.clips, RATE, "flac", "train", *origin(arguments.voices))


if __name__ == "__main__":
    run_main(main)
