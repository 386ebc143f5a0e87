"""Render the embedded corpus: WebDataset shards of synthetic doppelgänger pairs, and three HEAR-format tasks with known truth.

    python -m hear_ssl.synthesis.instruments --out shards --clips 2000 --seed 0 --tasks tasks

A pair is one parameter vector and the same vector perturbed by --delta, after Cherep and Singh, ICLR 2025,
https://arxiv.org/abs/2406.05923 (see `synth_space`); each member has its own noise. With --keep a pair shares one side of a
sound and not the other: the same notes by another instrument in another room, or the same instrument with other notes. The same
seed gives the same shards, byte for byte. No recording enters: the sounds are under CC0-1.0.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.shard_writer import EncodedClip, check_free, write_rendered
from hear_ssl.data.shards.shard_index import INDEX_NAME, check_split, read_index
from hear_ssl.errors import run_main
from hear_ssl.synthesis.parameter_space import Array, Layout, perturb, training_region
from hear_ssl.synthesis.scene import KINDS, PHRASE, PITCHED, SCORE, clip_seconds, layout_of, render
from hear_ssl.synthesis.tasks import write_tasks

__all__ = ["KINDS", "Corpus", "Pair", "layout_of", "render", "write_corpus", "write_tasks"]

SOURCE = "hear_ssl.synthetic"
LICENSE = "CC0-1.0"
CODECS = ("flac", "wav")
MOST_CLIPS = 10_000_000
LAYERED_SHARE = 0.3
KEEPS = ("all", "score", "sound")


@dataclass(frozen=True)
class Pair:
    """Two doppelgängers: their kinds of sound, their parameter vectors and their noise seeds."""

    kinds: tuple[str, str]
    parameters: tuple[Array, Array]
    seeds: tuple[int, int]

    @property
    def seconds(self) -> float:
        """The length of both clips together."""
        return sum(clip_seconds(parameters) for parameters in self.parameters)


@dataclass(frozen=True)
class Corpus:
    """An endless corpus of pairs, the n-th of which is a function of `seed` and n alone.

    keep: what the two of a pair share up to `delta`: all of the sound; the score alone, exactly, played by two pitched kinds; or
    the sound alone, with another score.
    """

    seed: int = 0
    delta: float = 0.25
    sample_rate: int = 16000
    keep: str = "all"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative; give 0 or more")
        if not 0.0 <= self.delta <= 1.0:
            raise ValueError(f"delta {self.delta} is outside 0 to 1; 0 gives pairs that differ in noise only, 0.25 is the usual strength")
        if not 8000 <= self.sample_rate <= 48000:
            raise ValueError(f"sample rate {self.sample_rate} is outside 8000 to 48000 Hz")
        if self.keep not in KEEPS:
            raise ValueError(f"keep is {self.keep!r}; give one of {', '.join(KEEPS)}")

    def pair(self, number: int) -> Pair:
        """Draw the parameters of the n-th pair."""
        rng = np.random.default_rng([self.seed, number])
        if self.keep == "score":
            return self._same_score(rng)
        names = list(KINDS)
        first, second = rng.permutation(len(names))[:2]
        kind = names[first] if rng.random() >= LAYERED_SHARE else f"{names[first]}+{names[second]}"
        theta = rng.random(len(layout_of(kind)))
        twin = perturb(theta, self.delta, rng)
        if self.keep == "sound":
            score = score_places(layout_of(kind))
            twin[score] = rng.random(len(score))
        return _pair((kind, kind), (theta, twin), rng)

    def _same_score(self, rng: np.random.Generator) -> Pair:
        """Draw a pair of two pitched sounds with nothing but the score in common."""
        kinds = str(rng.choice(PITCHED)), str(rng.choice(PITCHED))
        first, second = (rng.random(len(layout_of(kind))) for kind in kinds)
        score = score_places(PHRASE)
        second[score] = first[score]
        return _pair(kinds, (first, second), rng)

    def render(self, number: int) -> tuple[Array, Array]:
        """Render the n-th pair; returns two waveforms (time,), which differ in length."""
        pair = self.pair(number)
        first, second = (
            render(kind, parameters, seed, self.sample_rate)
            for kind, parameters, seed in zip(pair.kinds, pair.parameters, pair.seeds, strict=True)
        )
        return first, second

    def pairs_for(self, hours: float) -> int:
        """Return how many pairs together last at least `hours`."""
        seconds, number = 0.0, 0
        while seconds < hours * 3600.0:
            seconds += self.pair(number).seconds
            number += 1
        return number


def score_places(layout: Layout) -> list[int]:
    """Return which coordinates of a layout say what is played and when."""
    return [place for place, coordinate in enumerate(layout) if coordinate.name in SCORE]


def _pair(kinds: tuple[str, str], thetas: tuple[Array, Array], rng: np.random.Generator) -> Pair:
    seeds = rng.integers(0, 2**62, size=2)
    return Pair(kinds, (training_region(thetas[0]), training_region(thetas[1])), (int(seeds[0]), int(seeds[1])))


@dataclass(frozen=True)
class Job:
    """What a process needs to render and encode one pair."""

    corpus: Corpus
    codec: str
    split: str
    number: int


def encode_pair(job: Job) -> list[EncodedClip]:
    """Render and encode a pair as two clips of a shard, each with the key of the other."""
    corpus = job.corpus
    kind = "s" if corpus.keep == "all" else corpus.keep
    name = f"{kind}{corpus.seed}-{job.number:06d}"
    return encode_twins(
        name, corpus.render(job.number), corpus.sample_rate, job.codec, {"source": SOURCE, "license": LICENSE, "split": job.split}
    )


def encode_twins(name: str, waveforms: tuple[Array, Array], sample_rate: int, codec: str, origin: dict[str, str]) -> list[EncodedClip]:
    """Encode two waveforms (time,) as two clips, NAMEa and NAMEb, each with the key of the other and with source, license and split."""
    keys, clips = [f"{name}{member}" for member in "ab"], []
    for key, twin, waveform in zip(keys, reversed(keys), waveforms, strict=True):
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform, sample_rate, format=codec.upper(), subtype="PCM_16")
        record = {
            **origin,
            "original_sample_rate": sample_rate,
            "original_channels": 1,
            "offset_seconds": 0.0,
            "seconds": len(waveform) / sample_rate,
            "pair": twin,
        }
        clips.append(EncodedClip(key, codec, buffer.getvalue(), record))
    return clips


def _encoded_clips(jobs: Iterable[Job], workers: int) -> Iterator[EncodedClip]:
    """Yield the encoded clips in order, rendered by `workers` processes; one is this process."""
    yield from chain.from_iterable(map(encode_pair, jobs) if workers == 1 else in_order(encode_pair, jobs, workers))


def check_request(folder: Path, clips: int | None, hours: float | None, codec: str, workers: int) -> None:
    """Raise ValueError on arguments out of range, FileExistsError where the folder holds shards."""
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r} is unknown; give one of {', '.join(CODECS)}")
    if (clips is None) == (hours is None):
        raise ValueError("give either a number of clips or a number of hours")
    if clips is not None and (not 2 <= clips <= MOST_CLIPS or clips % 2):
        raise ValueError(f"{clips} clips cannot be rendered: clips come in pairs, so give an even number from 2 to {MOST_CLIPS}")
    if hours is not None and not 0.0 < hours <= 10000.0:
        raise ValueError(f"{hours} hours are out of range; give more than 0 and at most 10000")
    if not 1 <= workers <= 1024:
        raise ValueError(f"{workers} workers cannot render; give 1 to 1024")
    check_free(folder)


def write_corpus(
    out: str | os.PathLike[str],
    clips: int | None = None,
    hours: float | None = None,
    seed: int = 0,
    delta: float = 0.25,
    sample_rate: int = 16000,
    codec: str = "flac",
    workers: int = 1,
    split: str = "train",
    progress: bool = False,
    keep: str = "all",
) -> Path:
    """Render a corpus of `clips` clips, or of at least `hours` hours, as shards with an index; returns the path of the index.

    Both members of a pair stand side by side in one shard. A shard appears under its name only when whole, the index last.
    Raises what `Corpus` and `check_request` raise, and OSError when the disk is full.
    """
    check_split(split, "split")
    corpus = Corpus(seed, delta, sample_rate, keep)
    folder, index = Path(out), Path(out) / INDEX_NAME
    check_request(folder, clips, hours, codec, workers)
    pairs = clips // 2 if clips is not None else corpus.pairs_for(hours or 0.0)
    jobs = (Job(corpus, codec, split, number) for number in range(pairs))
    with tqdm(_encoded_clips(jobs, workers), total=2 * pairs, unit="clip", desc="rendering", disable=not progress) as bar:
        write_rendered(folder, bar, 2 * pairs, sample_rate, codec, split, SOURCE, LICENSE)
    return index


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hear_ssl.synthesis.instruments",
        description="Render a corpus of synthetic sounds to train on, with no recordings and no download: notes, plucked strings, bells, "
        "vowels, bird-like calls, drums, wind, rain and motors, of 2 to 8 seconds each, alone or two at once, in rooms. "
        "Clips come in pairs ('doppelgängers'): the same sound with its parameters perturbed.",
        epilog="Example: python -m hear_ssl.synthesis.instruments --out shards --clips 2000 --seed 0 --tasks tasks",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for the shards (.tar) and their index.json")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--clips", type=int, metavar="N", help="how many clips in all, an even number; 1000 clips are about 1.4 hours")
    amount.add_argument("--hours", type=float, metavar="H", help="or how many hours of sound")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="which corpus: the same seed gives the same bytes (default: %(default)s)"
    )
    parser.add_argument(
        "--delta", type=float, default=0.25, metavar="D", help="how far the two sounds of a pair lie apart, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--keep",
        choices=KEEPS,
        default="all",
        help="what the two share: all of the sound, perturbed by --delta; the score, exactly, played by other instruments in other rooms; "
        "or the sound, perturbed by --delta, with another score (default: %(default)s)",
    )
    parser.add_argument("--sample-rate", type=int, default=16000, metavar="HZ", help="8000 to 48000 (default: %(default)s)")
    parser.add_argument("--codec", choices=CODECS, default="flac", help="how the audio is stored (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one per core, %(default)s)"
    )
    parser.add_argument("--tasks", metavar="DIR", help="also write three small HEAR-format tasks there, on sounds the corpus never has")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    given = parse_arguments(arguments)
    corpus = Corpus(given.seed, given.delta, given.sample_rate, given.keep)
    check_request(Path(given.out), given.clips, given.hours, given.codec, given.workers)
    for task in write_tasks(given.tasks, given.seed) if given.tasks else []:
        print(f"task {task}")
    index = write_corpus(
        given.out,
        given.clips,
        given.hours,
        corpus.seed,
        corpus.delta,
        corpus.sample_rate,
        given.codec,
        given.workers,
        progress=True,
        keep=corpus.keep,
    )
    written = read_index(index)
    print(f"{written.clips} clips, {written.hours:.2f} hours, {len(written.shards)} shards in {given.out}")
    return 0


if __name__ == "__main__":
    run_main(main)
