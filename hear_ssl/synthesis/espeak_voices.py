"""Say invented words by voices of espeak-ng, which computes speech from formants, for `spoken_pairs`."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass, replace

import numpy as np
import soundfile
import soxr

from hear_ssl.synthesis.engines import SAMPLE_RATE
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recordings import trim_silence

LANGUAGES = ("en-us", "en-gb", "es", "it", "fr-fr", "de", "pt-br", "pl", "fi", "tr", "sw", "id", "eo", "nl", "sv", "hu", "cs", "el")
VARIANTS = [*(f"m{n}" for n in range(1, 9)), *(f"f{n}" for n in range(1, 6)), *(f"klatt{n}" for n in ("", 2, 3, 4))]
VARIANTS += ["croak", "grandma", "grandpa", "whisper", "whisperf", "Alex", "Alicia", "Andrea", "Annie", "Denis", "Diogo", "Gene", "Hugo"]
VARIANTS += ["Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "boris"]
VARIANTS += ["david", "edward", "iven", "john", "linda", "max", "michel", "pablo", "paul", "quincy", "rob", "shelby", "steph", "travis"]
VARIANTS += ["victor", "zac"]
CONSONANTS = [*"bdfghjklmnprstvwyz", "ch", "sh", "st", "tr", "pl", "kr", "bl"]
VOWELS = [*"aeiou", "ai", "ei", "ou", "au"]
CODAS = ["", "", "", *"nslrtkm"]


@dataclass(frozen=True)
class Voice:
    """A voice of espeak-ng with its pitch (0 to 99) and speed (words per minute), and the length of its vocal tract, 1 unchanged."""

    name: str
    pitch: int
    speed: int
    tract: float

    def vary(self, rng: np.random.Generator) -> Voice:
        """Return the voice for another word: pitch changed by up to 5, speed by up to 10 %."""
        return replace(self, pitch=self.pitch + int(rng.integers(-5, 6)), speed=round(self.speed * float(rng.uniform(0.9, 1.1))))


def draw_voice(language: str, rng: np.random.Generator) -> Voice:
    """Return a voice of a language."""
    name = f"{language}+{rng.choice(VARIANTS)}"
    pitch, speed = int(rng.integers(10, 90)), int(rng.integers(110, 230))
    return Voice(name, pitch, speed, float(np.exp(rng.uniform(-0.15, 0.15))))


def draw_word(rng: np.random.Generator) -> str:
    """Return a word of one to four syllables."""
    syllables = rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.25, 0.1])
    return "".join(f"{rng.choice(CONSONANTS)}{rng.choice(VOWELS)}{rng.choice(CODAS)}" for _ in range(syllables))


def speak(text: str, voice: Voice) -> Array:
    """Return a word by espeak-ng without the silence around it (time,); empty when the voice has no sound for it.

    Raises OSError when espeak-ng fails.
    """
    command = ["espeak-ng", "-v", voice.name, "-p", str(voice.pitch), "-s", str(voice.speed), "--stdout", text]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise OSError(f"espeak-ng failed with voice {voice.name}: {done.stderr.decode(errors='replace').strip()}")
    waveform, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    return trim_silence(scale_tract(waveform, rate, voice.tract), 0.01)


def scale_tract(waveform: Array, rate: int, tract: float) -> Array:
    """Return speech (time,) at 16000 Hz by a vocal tract `tract` times as long: slower, with pitch and formants lower."""
    return np.asarray(soxr.resample(waveform, rate, SAMPLE_RATE * tract), dtype=np.float32)


def check_espeak() -> None:
    """Raise ValueError when espeak-ng is not installed."""
    if not shutil.which("espeak-ng"):
        raise ValueError("the program espeak-ng is not installed; install it (Debian: apt-get install espeak-ng)")
