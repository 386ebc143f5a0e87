"""Render words that nobody says by the voices of Festival, and cut speech of recordings, as voices for spoken_pairs.py --voices.

python -m hear_ssl.synthesis.festival_words --out said --words 600 --seed 23 --recordings corpus.jsonl

Festival joins pieces of recorded speech, where espeak-ng computes its sounds. OUT/LANGUAGE/words.txt lists the words of a language,
OUT/LANGUAGE/VOICE/NUMBER.ogg is one of them, of those that Festival can say; OUT/SOURCE/voice holds speech of the corpus, of which no
words are known. Needs the program festival and its voices (Debian: festival, festvox-italp16k, -itapc16k, -ca-ona-hts, -czech-dita,
-czech-krb, -czech-machac, -czech-ph, -kdlpc16k, -ru, -suopuhe-lj, -suopuhe-mv, -hi-nsk, -te-nsk); no speaker of these is one of
word_task.py.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.errors import run_main
from hear_ssl.synthesis.recordings import listed
from hear_ssl.synthesis.strokes import RATE

VOICES = {
    "it": ("lp_diphone", "pc_diphone"),
    "ca": ("upc_ca_ona_hts",),
    "cs": ("czech_dita", "czech_krb", "czech_machac", "czech_ph"),
    "en-us": ("ked_diphone",),
    "ru": ("msu_ru_nsh_clunits",),
    "fi": ("hy_fi_mv_diphone", "suo_fi_lj_diphone"),
    "hi": ("hindi_NSK_diphone",),
    "te": ("telugu_NSK_diphone",),
}
CONSONANTS, VOWELS, ENDS = "bdfghjklmnprstvz", "aeiou", "lnrst"
SCRIPTS = {  # consonants and vowels of a language in the order above; vowels after a consonant
    "ru": (list("бдфгхйклмнпрствз"), list("аэиоу")),
    "hi": (list("बदफगहजकलमनपरसतवच"), ["ा", "े", "ि", "ो", "ु"]),
    "te": (list("బదఫగహజకలమనపరసతవచ"), ["ా", "ే", "ి", "ో", "ు"]),
}
OPEN_SYLLABLES = ("hi", "te")  # in whose scripts a consonant that ends a word would be a syllable
WORDS = "words.txt"
SPEECH = re.compile(r"^asterisk-(core-sounds|prompt)")
WORDS_AT_ONCE, PIECES_PER_VOICE, TRIES = 50, 250, 20
PIECE_SECONDS, SHORTEST_PIECE_SECONDS = (0.7, 1.3), 0.3
Array = npt.NDArray[np.float32]


def word(language: str, rng: np.random.Generator) -> str:
    """Return a word of one to four syllables in the script of a language."""
    consonants, vowels = SCRIPTS.get(language, (list(CONSONANTS), list(VOWELS)))
    syllables = rng.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.3, 0.1])
    ends = "" if language in OPEN_SYLLABLES else rng.choice(["", "", *(consonants[CONSONANTS.index(end)] for end in ENDS)])
    return "".join(f"{rng.choice(consonants)}{rng.choice(vowels)}" for _ in range(syllables)) + str(ends)


def word_file(number: int) -> str:
    """Return the name of the file of the n-th word of a voice."""
    return f"{number:04d}.ogg"


def sounding(waveform: Array, share: float) -> Array:
    """Return a waveform (time,) from the first to the last sample above a share of its peak; nothing of silence."""
    loud = np.nonzero(np.abs(waveform) > share * np.abs(waveform).max(initial=0.0))[0]
    return waveform[loud[0] : loud[-1] + 1] if len(loud) else waveform[:0]


def trimmed(waveform: Array) -> Array:
    """Return speech (time,) without the silence and breath around it, at a peak of .9; nothing of silence."""
    loud = sounding(waveform, 0.05)
    return loud * np.float32(0.9 / float(np.abs(loud).max())) if len(loud) else loud


def said(job: tuple[str, list[str], list[float]]) -> list[bytes]:
    """Return words by a voice, each so many times as long as the voice says it, as Opus; nothing for one that Festival fails at."""
    voice, words, stretches = job
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.wav" for number in range(len(words))]
        tried = 0
        while tried < len(words):
            script = [f"(voice_{voice})"]
            for number in range(tried, len(words)):
                script.append(f"(Parameter.set 'Duration_Stretch {stretches[number]:.3f})")
                script.append(f'(utt.save.wave (utt.synth (Utterance Text "{words[number]}")) "{files[number]}" (quote riff))')
            (Path(folder) / "words.scm").write_text("\n".join(script))
            subprocess.run(["festival", "-b", f"{folder}/words.scm"], capture_output=True)  # a word it cannot say ends it
            tried = next((number for number in range(tried, len(words)) if not files[number].exists()), len(words)) + 1
        return [encoded(read(file)) if file.exists() else b"" for file in files]


def read(file: Path) -> Array:
    """Return the speech of a file (time,)."""
    waveform, rate = soundfile.read(file, dtype="float32")
    return trimmed(np.asarray(soxr.resample(waveform, rate, RATE), dtype=np.float32))


def encoded(waveform: Array) -> bytes:
    """Return speech (time,) as Opus."""
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format="OGG", subtype="OPUS")
    return file.getvalue()


def pieces(files: list[str], rng: np.random.Generator) -> list[bytes]:
    """Return PIECES_PER_VOICE pieces of the recordings of one voice, as Opus."""
    cut: list[bytes] = []
    for _ in range(TRIES * PIECES_PER_VOICE):
        waveform = read(Path(str(rng.choice(files))))
        length = round(rng.uniform(*PIECE_SECONDS) * RATE)
        start = int(rng.integers(0, max(1, len(waveform) - length)))
        piece = trimmed(waveform[start : start + length])
        if len(piece) > SHORTEST_PIECE_SECONDS * RATE:
            cut.append(encoded(piece))
        if len(cut) == PIECES_PER_VOICE:
            return cut
    raise ValueError(
        f"{Path(files[0]).parent}: hardly a recording has {SHORTEST_PIECE_SECONDS} s of speech; leave its source out of the list"
    )


def speech(corpus: str) -> dict[str, list[str]]:
    """Return the files of each source of speech of a list, the speaker that has most of them; none of an empty name."""
    speakers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in listed(corpus):
        if SPEECH.match(entry["source"]):
            speakers[entry["source"]][Path(entry["path"]).parent.name].append(entry["path"])
    return {source: max(files.values(), key=len) for source, files in speakers.items()}


def check_voices() -> None:
    """Raise ValueError when Festival lacks one of VOICES."""
    for voice in (voice for voices in VOICES.values() for voice in voices):
        if subprocess.run(["festival", "-b", f"(voice_{voice})"], capture_output=True).returncode:
            raise ValueError(
                f"festival has no voice {voice}; install it (Debian: festvox-*, the list stands at the top of festival_words.py)"
            )


def render(out: Path, count: int, rng: np.random.Generator, workers: int) -> None:
    """Write so many words of each language, by each of its voices."""
    jobs, files = [], []
    for language, voices in VOICES.items():
        words = [word(language, rng) for _ in range(count)]
        folder = out / language
        folder.mkdir(parents=True)
        (folder / WORDS).write_text("\n".join(words))
        for voice in voices:
            for start in range(0, len(words), WORDS_AT_ONCE):
                some = words[start : start + WORDS_AT_ONCE]
                jobs.append((voice, some, [float(rng.uniform(0.6, 1.2)) for _ in some]))
                files += [folder / voice / word_file(start + number) for number in range(len(some))]
    rendered = (one for some in in_order(said, jobs, workers) for one in some)
    for audio, file in tqdm(zip(rendered, files, strict=True), total=len(files), unit="word"):
        file.parent.mkdir(exist_ok=True)
        if audio:
            file.write_bytes(audio)
    print(f"{sum(not file.exists() for file in files)} of {len(files)} words left out, which Festival failed at")


def main() -> None:
    """Render voices as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", type=int, default=600, help="words of a language")
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--recordings", default="", help="list of real_corpus.py, whose voices of asterisk are cut as well")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.out.exists():
        raise FileExistsError(f"{given.out} exists: give another folder, or remove it first")
    check_voices()
    rng = np.random.default_rng(given.seed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out.parent) as unfinished:
        whole = Path(unfinished) / given.out.name
        render(whole, given.words, rng, given.workers)
        for source, recorded in speech(given.recordings).items():
            folder = whole / source / "voice"
            folder.mkdir(parents=True)
            for number, audio in enumerate(pieces(recorded, rng)):
                (folder / word_file(number)).write_bytes(audio)
        whole.rename(given.out)


if __name__ == "__main__":
    run_main(main)
