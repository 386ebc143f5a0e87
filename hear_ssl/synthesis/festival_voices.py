"""Render voices for `spoken_pairs`: invented words by voices of Festival, which joins recorded speech, and speech cut from recordings.

DIR/LANGUAGE/words.txt lists the words of a language and DIR/LANGUAGE/VOICE/NUMBER.ogg is one of them, of those that Festival can
say. DIR/SOURCE/voice/NUMBER.ogg is speech cut from the recordings of one speaker, whose words are unknown.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.files import disk_errors_of, remove_unfinished, unfinished_folder
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.synthesis.command import Command, add_output_options
from hear_ssl.synthesis.engines import SAMPLE_RATE
from hear_ssl.synthesis.pair_shards import check_run
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recordings import read_list, trim_silence

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
SCRIPTS = {  # consonants and vowels of a language in the order above; the vowels are signs that follow a consonant
    "ru": (list("бдфгхйклмнпрствз"), list("аэиоу")),
    "hi": (list("बदफगहजकलमनपरसतवच"), ["ा", "े", "ि", "ो", "ु"]),
    "te": (list("బదఫగహజకలమనపరసతవచ"), ["ా", "ే", "ి", "ో", "ు"]),
}
OPEN_SYLLABLES = ("hi", "te")  # in their scripts a consonant at the end of a word is a syllable
WORDS = "words.txt"
SPEECH = re.compile(r"^asterisk-(core-sounds|prompt)")
WORDS_PER_JOB, PIECES_PER_VOICE, TRIES = 50, 250, 20
PIECE_SECONDS, SHORTEST_PIECE_SECONDS = (0.7, 1.3), 0.3


@dataclass(frozen=True)
class Job:
    """Words for a voice of Festival, each with the factor of its duration and the file that it becomes."""

    voice: str
    words: list[str]
    stretches: list[float]
    files: list[Path]


def draw_word(language: str, rng: np.random.Generator) -> str:
    """Return a word of one to four syllables in the script of a language."""
    consonants, vowels = SCRIPTS.get(language, (list(CONSONANTS), list(VOWELS)))
    syllables = rng.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.3, 0.1])
    ends = "" if language in OPEN_SYLLABLES else rng.choice(["", "", *(consonants[CONSONANTS.index(end)] for end in ENDS)])
    return "".join(f"{rng.choice(consonants)}{rng.choice(vowels)}" for _ in range(syllables)) + str(ends)


def word_file(number: int) -> str:
    """Return the file name of word `number` of a voice."""
    return f"{number:04d}.ogg"


def trim_speech(waveform: Array) -> Array:
    """Return speech without the silence and breath around it, at a peak of 0.9; empty for silence (time,)."""
    speech = trim_silence(waveform, 0.05)
    return speech * np.float32(0.9 / float(np.abs(speech).max())) if len(speech) else speech


def say_words(job: Job) -> list[bytes]:
    """Return the words of a job as Opus, empty for a word that Festival cannot say."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.wav" for number in range(len(job.words))]
        first = 0
        while first < len(files):  # Festival stops at a word that it cannot say: start it again after that word
            script = Path(folder) / "words.scm"
            script.write_text(festival_script(job, files, first))
            subprocess.run(["festival", "-b", str(script)], capture_output=True)
            first = next((number for number in range(first, len(files)) if not files[number].exists()), len(files)) + 1
        return [encode_opus(read_speech(file)) if file.exists() else b"" for file in files]


def festival_script(job: Job, files: list[Path], first: int) -> str:
    """Return the Scheme commands with which Festival says the words from number `first` on, one file for each."""
    lines = [f"(voice_{job.voice})"]
    for number in range(first, len(files)):
        lines.append(f"(Parameter.set 'Duration_Stretch {job.stretches[number]:.3f})")
        lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{job.words[number]}")) "{files[number]}" (quote riff))')
    return "\n".join(lines)


def read_speech(file: Path) -> Array:
    """Return the speech of a file at 16000 Hz (time,)."""
    waveform, rate = soundfile.read(file, dtype="float32")
    return trim_speech(np.asarray(soxr.resample(waveform, rate, SAMPLE_RATE), dtype=np.float32))


def encode_opus(waveform: Array) -> bytes:
    """Return speech (time,) as Opus in an Ogg file."""
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="OGG", subtype="OPUS")
    return file.getvalue()


def cut_speech(files: list[str], rng: np.random.Generator) -> Iterator[bytes]:
    """Yield PIECES_PER_VOICE pieces of the recordings of one voice as Opus. Raises ValueError when they contain too little speech."""
    count = 0
    for _ in range(TRIES * PIECES_PER_VOICE):
        waveform = read_speech(Path(str(rng.choice(files))))
        length = round(rng.uniform(*PIECE_SECONDS) * SAMPLE_RATE)
        start = int(rng.integers(0, max(1, len(waveform) - length)))
        piece = trim_speech(waveform[start : start + length])
        if len(piece) > SHORTEST_PIECE_SECONDS * SAMPLE_RATE:
            count += 1
            yield encode_opus(piece)
        if count == PIECES_PER_VOICE:
            return
    raise ValueError(f"{Path(files[0]).parent}: too few recordings have {SHORTEST_PIECE_SECONDS} s of speech; remove them from the list")


def list_speech(list_file: str) -> dict[str, list[str]]:
    """Return {source: files} of the sources of speech in a list, of the speaker with most files each; none for no list."""
    speakers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for recording in read_list(list_file):
        if SPEECH.match(recording.source):
            speakers[recording.source][Path(recording.path).parent.name].append(recording.path)
    return {source: max(files.values(), key=len) for source, files in speakers.items()}


def check_festival() -> None:
    """Raise ValueError when Festival or one of VOICES is not installed."""
    packages = "hear-ssl synth voices --help lists the packages of Debian"
    if not shutil.which("festival"):
        raise ValueError(f"the program festival is not installed; {packages}")
    for voice in chain.from_iterable(VOICES.values()):
        if subprocess.run(["festival", "-b", f"(voice_{voice})"], capture_output=True).returncode:
            raise ValueError(f"festival has no voice {voice}; {packages}")


def draw_jobs(folder: Path, words: int, rng: np.random.Generator) -> list[Job]:
    """Draw `words` words of each language, write the lists of them, and return the jobs of all voices."""
    jobs = []
    for language, voices in VOICES.items():
        drawn = [draw_word(language, rng) for _ in range(words)]
        (folder / language).mkdir(parents=True)
        (folder / language / WORDS).write_text("\n".join(drawn))
        for voice in voices:
            for start in range(0, words, WORDS_PER_JOB):
                some = drawn[start : start + WORDS_PER_JOB]
                files = [folder / language / voice / word_file(start + number) for number in range(len(some))]
                jobs.append(Job(voice, some, [float(rng.uniform(0.6, 1.2)) for _ in some], files))
    return jobs


def write_words(jobs: list[Job], workers: int, progress: bool) -> int:
    """Write the words of all jobs; returns how many Festival could not say."""
    files = [file for job in jobs for file in job.files]
    rendered = chain.from_iterable(in_order(say_words, jobs, workers))
    failed = 0
    for audio, file in tqdm(zip(rendered, files, strict=True), total=len(files), unit="word", desc="words", disable=not progress):
        file.parent.mkdir(exist_ok=True)
        failed += not audio
        if audio:
            file.write_bytes(audio)
    return failed


def write_voices(
    out: str | os.PathLike[str], words: int = 600, seed: int = 23, recordings: str = "", workers: int = 1, progress: bool = False
) -> int:
    """Write `words` words of each language by all of its voices, and speech of a list; returns how many words Festival could not say.

    recordings: a JSON Lines list of recordings (see `recordings`), "" for none. The folder has its name only when it is complete.
    Raises ValueError on an argument out of range, an unreadable list or when Festival or a voice is not installed, FileExistsError
    when `out` exists, OSError when the disk is full.
    """
    check_run(seed, workers)
    if not 1 <= words <= 9999:
        raise ValueError(f"{words} words cannot be rendered; give 1 to 9999 for each language")
    final = Path(out)
    if final.exists():
        raise FileExistsError(f"{final} exists: give another folder, or remove it first")
    speech = list_speech(recordings)
    check_festival()
    rng = np.random.default_rng(seed)
    remove_unfinished(final.parent, final.name)
    with disk_errors_of(final), folder_lock(final, OUT_BUSY), unfinished_folder(final.parent, final.name) as unfinished:
        folder = unfinished / final.name
        failed = write_words(draw_jobs(folder, words, rng), workers, progress)
        for source, files in speech.items():
            voice = folder / source / "voice"
            voice.mkdir(parents=True)
            pieces = tqdm(cut_speech(files, rng), total=PIECES_PER_VOICE, unit="piece", desc=source, disable=not progress)
            for number, audio in enumerate(pieces):
                (voice / word_file(number)).write_bytes(audio)
        folder.rename(final)
    return failed


DESCRIPTION = f"""\
Render voices for the kind `words`: invented words of 1 to 4 syllables by {sum(map(len, VOICES.values()))} voices of Festival in
{len(VOICES)} languages. Festival joins pieces of recorded speech; espeak-ng computes speech from formants.
All voices of a language say the same words, so that `words` can pair them. Files are Opus at 16000 Hz.

With --recordings the folder also has pieces of speech, 0.3 to 1.3 s each, cut from the recordings of the
list whose source begins with asterisk-core-sounds or asterisk-prompt: 250 of one speaker of each source.

Needs Debian's festival, festvox-italp16k, -itapc16k, -ca-ona-hts, -czech-dita, -czech-krb, -czech-machac,
-czech-ph, -kdlpc16k, -ru, -suopuhe-lj, -suopuhe-mv, -hi-nsk, -te-nsk (each begins with festvox).
1000 words take about 30 s on one core.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this kind to the command line."""
    add_output_options(parser, seed=23)
    parser.add_argument("--words", type=int, default=600, metavar="N", help="words of each language, 1 to 9999 (default: %(default)s)")
    parser.add_argument(
        "--recordings",
        default="",
        metavar="LIST",
        help="JSON Lines list of recordings with path, license and source on each line, whose speech is cut",
    )


def run(given: argparse.Namespace) -> None:
    """Render with the options of the command line."""
    failed = write_voices(given.out, given.words, given.seed, given.recordings, given.workers, progress=True)
    spoken = given.words * sum(map(len, VOICES.values()))
    print(f"{spoken - failed} words in {given.out}; Festival could not say {failed} of {spoken}")


COMMAND = Command(
    "voices for `words`, by Festival and cut from recordings of speech",
    DESCRIPTION,
    "hear-ssl synth voices --out said --words 600 --seed 23",
    add_options,
    run,
)
