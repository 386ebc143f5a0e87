"""Render the corpus of instruments: pairs of synthetic sounds as WebDataset shards, and three HEAR-format tasks with known labels.

A pair is one parameter vector and the same vector perturbed, after Cherep and Singh, "Contrastive Learning from Synthetic Audio
Doppelgängers", ICLR 2025, https://arxiv.org/abs/2406.05923 (see `parameter_space`); each sound has its own noise. With `keep` a
pair shares the score or the instrument alone. The same seed gives the same bytes. No recording is used: the sounds are CC0-1.0.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_ssl.data.packing.shard_writer import EncodedClip, check_free
from hear_ssl.data.shards.shard_index import check_split, read_index
from hear_ssl.synthesis.command import Command, add_output_options
from hear_ssl.synthesis.pair_shards import Format, Origin, check_clips, check_run, describe, encode_pair, render_in_order, write_pairs
from hear_ssl.synthesis.parameter_space import Array, Layout, perturb, training_region
from hear_ssl.synthesis.scene import KINDS, PHRASE, PITCHED, SCORE, clip_seconds, layout_of, render
from hear_ssl.synthesis.tasks import write_tasks

SOURCE = "hear_ssl.synthetic"
LICENSE = "CC0-1.0"
CODECS = ("flac", "wav")
LAYERED_SHARE = 0.3
KEEPS = ("all", "score", "sound")


@dataclass(frozen=True)
class Pair:
    """The kinds of sound, parameter vectors (d,) and noise seeds of the two sounds of a pair."""

    kinds: tuple[str, str]
    parameters: tuple[Array, Array]
    seeds: tuple[int, int]

    @property
    def seconds(self) -> float:
        """The sum of the lengths of both clips in seconds."""
        return sum(clip_seconds(parameters) for parameters in self.parameters)


@dataclass(frozen=True)
class Corpus:
    """An unlimited sequence of pairs; pair n is a function of the fields and n alone.

    delta: the standard deviation of the perturbation, of coordinates in [0, 1].
    keep: what a pair shares: "all" of the parameters up to `delta`, which is the doppelgänger of Cherep and Singh; the "score",
    exactly, with new random kinds of sound and other parameters; or the "sound", up to `delta`, with a new random score.
    Raises ValueError on a field out of range.
    """

    seed: int = 0
    delta: float = 0.25
    sample_rate: int = 16000
    keep: str = "all"

    def __post_init__(self) -> None:
        check_run(self.seed, workers=1)
        if not 0.0 <= self.delta <= 1.0:
            raise ValueError(f"delta {self.delta} is outside 0 to 1; with 0 pairs differ in their noise alone, 0.25 is the default")
        if not 8000 <= self.sample_rate <= 48000:
            raise ValueError(f"sample rate {self.sample_rate} is outside 8000 to 48000 Hz")
        if self.keep not in KEEPS:
            raise ValueError(f"keep is {self.keep!r}; give one of {', '.join(KEEPS)}")

    def pair(self, number: int) -> Pair:
        """Return the parameters of pair `number`."""
        rng = np.random.default_rng([self.seed, number])
        if self.keep == "score":
            return self._same_score(rng)
        names = list(KINDS)
        first, second = rng.permutation(len(names))[:2]
        kind = names[first] if rng.random() >= LAYERED_SHARE else f"{names[first]}+{names[second]}"
        theta = rng.random(len(layout_of(kind)))
        twin = perturb(theta, self.delta, rng)
        if self.keep == "sound":
            score = score_indices(layout_of(kind))
            twin[score] = rng.random(len(score))
        return _pair((kind, kind), (theta, twin), rng)

    def _same_score(self, rng: np.random.Generator) -> Pair:
        """Draw two pitched sounds that share the score and nothing else."""
        kinds = str(rng.choice(PITCHED)), str(rng.choice(PITCHED))
        first, second = (rng.random(len(layout_of(kind))) for kind in kinds)
        score = score_indices(PHRASE)
        second[score] = first[score]
        return _pair(kinds, (first, second), rng)

    def render(self, number: int) -> tuple[Array, Array]:
        """Render pair `number`; returns two waveforms (time,), which may differ in length."""
        pair = self.pair(number)
        first, second = (
            render(kind, parameters, seed, self.sample_rate)
            for kind, parameters, seed in zip(pair.kinds, pair.parameters, pair.seeds, strict=True)
        )
        return first, second

    def pairs_for(self, hours: float) -> int:
        """Return the number of pairs that last at least `hours` together."""
        seconds, number = 0.0, 0
        while seconds < hours * 3600.0:
            seconds += self.pair(number).seconds
            number += 1
        return number


def score_indices(layout: Layout) -> list[int]:
    """Return the indices of the coordinates of a layout that define what is played and when."""
    return [index for index, coordinate in enumerate(layout) if coordinate.name in SCORE]


def _pair(kinds: tuple[str, str], thetas: tuple[Array, Array], rng: np.random.Generator) -> Pair:
    seeds = rng.integers(0, 2**62, size=2)
    return Pair(kinds, (training_region(thetas[0]), training_region(thetas[1])), (int(seeds[0]), int(seeds[1])))


@dataclass(frozen=True)
class Job:
    """One pair to render and encode in a process."""

    corpus: Corpus
    codec: str
    split: str
    number: int


def render_clips(job: Job) -> list[EncodedClip]:
    """Return the two encoded clips of a pair."""
    corpus = job.corpus
    prefix = "s" if corpus.keep == "all" else corpus.keep
    name = f"{prefix}{corpus.seed}-{job.number:06d}"
    return encode_pair(name, corpus.render(job.number), Format(corpus.sample_rate, job.codec), Origin(SOURCE, LICENSE, job.split))


def check_request(folder: Path, clips: int | None, hours: float | None, codec: str, workers: int) -> None:
    """Raise ValueError on an argument out of range, FileExistsError when the folder holds shards."""
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r} is unknown; give one of {', '.join(CODECS)}")
    if (clips is None) == (hours is None):
        raise ValueError("give either a number of clips or a number of hours")
    if clips is not None:
        check_clips(clips)
    if hours is not None and not 0.0 < hours <= 10000.0:
        raise ValueError(f"{hours} hours are out of range; give more than 0 and at most 10000")
    check_run(0, workers)
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

    The two clips of a pair are neighbours in one shard. A shard has its final name only when it is complete, the index last.
    Raises what `Corpus` and `check_request` raise, and OSError when the disk is full.
    """
    check_split(split, "split")
    corpus = Corpus(seed, delta, sample_rate, keep)
    check_request(Path(out), clips, hours, codec, workers)
    pairs = clips // 2 if clips is not None else corpus.pairs_for(hours or 0.0)
    jobs = (Job(corpus, codec, split, number) for number in range(pairs))
    rendered = render_in_order(render_clips, jobs, workers)
    return write_pairs(Path(out), rendered, 2 * pairs, Format(sample_rate, codec), Origin(SOURCE, LICENSE, split), progress)


DESCRIPTION = """\
Render synthetic sounds: subtractive, FM, plucked and struck instruments, vowels, bird-like calls, drums,
wind, rain and motors, alone or two at once, with reverberation and background noise. Clips last 2 to 8 s.
No recording and no download is needed.

What the two clips of a pair share (--keep):
  all    all parameters, perturbed by normal noise of standard deviation --delta
         (the doppelgängers of Cherep and Singh, ICLR 2025)
  score  the notes and their times, exactly; two pitched instruments, in two rooms, play them
  sound  the instrument and the room, perturbed by --delta, with two scores
The noise of each clip is its own. 1000 clips, about 1.4 hours, take about 20 s on one core.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this kind to the command line."""
    add_output_options(parser, seed=0)
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--clips", type=int, metavar="N", help="clips in all, an even number: two for each pair")
    amount.add_argument("--hours", type=float, metavar="H", help="or hours in all, at least; more than 0, at most 10000")
    parser.add_argument("--keep", choices=KEEPS, default="all", help="what a pair shares, see above (default: %(default)s)")
    parser.add_argument(
        "--delta",
        type=float,
        default=0.25,
        metavar="D",
        help="distance between the two sounds, 0 to 1; not for score (default: %(default)s)",
    )
    parser.add_argument("--sample-rate", type=int, default=16000, metavar="HZ", help="8000 to 48000 Hz (default: %(default)s)")
    parser.add_argument("--codec", choices=CODECS, default="flac", help="how clips are stored, with 16 bits (default: %(default)s)")
    parser.add_argument(
        "--tasks", metavar="FOLDER", help="also write three small HEAR-format tasks (pitch, kind of sound, onsets) on held-out sounds there"
    )


def run(given: argparse.Namespace) -> None:
    """Render with the options of the command line."""
    Corpus(given.seed, given.delta, given.sample_rate, given.keep)
    check_request(given.out, given.clips, given.hours, given.codec, given.workers)
    for task in write_tasks(given.tasks, given.seed) if given.tasks else []:
        print(f"task {task}")
    index = write_corpus(
        given.out,
        given.clips,
        given.hours,
        given.seed,
        given.delta,
        given.sample_rate,
        given.codec,
        given.workers,
        progress=True,
        keep=given.keep,
    )
    print(describe(read_index(index), given.out))


COMMAND = Command(
    "synthetic sounds and melodies: one sound and its perturbed twin, one score by two instruments, or one instrument with two scores",
    DESCRIPTION,
    "hear-ssl synth instruments --out shards --clips 2000 --seed 0 --tasks tasks",
    add_options,
    run,
)
