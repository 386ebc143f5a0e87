"""Render words that nobody says, each by two voices of espeak-ng, as doppelgänger pairs for data.positives=doppelgaenger.

python tests/benchmarks/spokenpairs.py --out spoken --clips 24000 --seed 13

The two of a pair share the sounds of speech and nothing else: voice, pitch, speed, vocal tract, level and noise are drawn for each.
Words of one to four syllables in a language drawn for the pair, at most 1.2 s. Needs the program espeak-ng (Debian: espeak-ng).
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from tqdm import tqdm

from hear_ssl.data.pool import in_order
from hear_ssl.data.shard_writer import EncodedClip, check_free, write_rendered
from hear_ssl.data.synthetic import encode_twins

RATE, LONGEST_SECONDS = 16000, 1.2
SOURCE, LICENSE = "espeak-ng", "output of espeak-ng, which is GPL-3+"
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
    """The n-th pair of a corpus, a function of seed and number alone."""

    seed: int
    number: int


def word(rng: np.random.Generator) -> str:
    """Return a word of one to four syllables."""
    syllables = rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.25, 0.1])
    return "".join(f"{rng.choice(CONSONANTS)}{rng.choice(VOWELS)}{rng.choice(CODAS)}" for _ in range(syllables))


def speak(text: str, language: str, rng: np.random.Generator) -> Array:
    """Return the word (time,) by a voice drawn anew, without the silence around it."""
    voice = f"{language}+{rng.choice(VARIANTS)}"
    pitch, speed = str(rng.integers(10, 90)), str(rng.integers(110, 230))
    command = ["espeak-ng", "-v", voice, "-p", pitch, "-s", speed, "--stdout", text]
    waveform, rate = soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout), dtype="float32")
    tract = float(np.exp(rng.uniform(-0.15, 0.15)))  # formants and pitch together, as in a smaller or larger head
    waveform = soxr.resample(waveform, rate, RATE * tract)
    loud = np.nonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())[0]
    if not len(loud):  # a few voices have no sound for some words
        return speak(text, language, rng)
    return np.asarray(waveform[loud[0] : loud[-1] + 1], dtype=np.float32)


def place(waveform: Array, rng: np.random.Generator) -> Array:
    """Return the word at a level and with noise drawn anew, its spectrum tilted, a little silence before and after."""
    waveform = waveform[: round(LONGEST_SECONDS * RATE)]
    tilt = rng.uniform(-0.6, 0.6)
    waveform = waveform + tilt * np.concatenate([np.zeros(1, np.float32), waveform[:-1]])
    before, after = rng.integers(0, round(0.3 * RATE), 2)
    padded = np.concatenate([np.zeros(before), waveform / np.abs(waveform).max(), np.zeros(after)])
    noisy = padded + rng.standard_normal(len(padded)) * 10.0 ** rng.uniform(-4.0, -1.7)
    return np.asarray(noisy / np.abs(noisy).max() * rng.uniform(0.1, 0.9), dtype=np.float32)


def encode(pair: Pair) -> list[EncodedClip]:
    """Render and encode a pair as two clips, each with the key of the other."""
    rng = np.random.default_rng([pair.seed, pair.number])
    text, language = word(rng), str(rng.choice(LANGUAGES))
    first, second = (place(speak(text, language, rng), rng) for _ in range(2))
    origin = {"source": SOURCE, "license": LICENSE, "split": "train"}
    return encode_twins(f"spoken{pair.seed}-{pair.number:06d}", (first, second), RATE, "flac", origin)


def main() -> None:
    """Render a corpus as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=24000)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    check_free(arguments.out)
    pairs = (Pair(arguments.seed, number) for number in range(arguments.clips // 2))
    clips = chain.from_iterable(in_order(encode, pairs, arguments.workers))
    bar = tqdm(clips, total=arguments.clips, unit="clip")
    write_rendered(arguments.out, bar, arguments.clips, RATE, "flac", "train", SOURCE, LICENSE)


if __name__ == "__main__":
    main()
