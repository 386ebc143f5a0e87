"""Render the corpus of strokes: phrases of percussion, each by two kits of instruments, as pairs in WebDataset shards.

A pair shares which kinds are struck, in which order, and half of the size, damping and hardness of each stroke. Tuning, material,
tempo, room, filters, saturation, level and noise are drawn for each clip. `strokes` renders a stroke, `recording_chain` the room.
With a list of recordings a stroke may be a recording: of its kind, by its file name (RECORDED), or of one sound of which there are
several recordings, whose file names differ in their last number.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis.command import Command, add_clips_option, add_output_options
from hear_ssl.synthesis.engines import LN_60_DB, SAMPLE_RATE, normalise_peak
from hear_ssl.synthesis.pair_shards import Format, Origin, check_request, describe, encode_pair, render_in_order, write_pairs
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recording_chain import record
from hear_ssl.synthesis.recordings import Recording, read_list
from hear_ssl.synthesis.strokes import KINDS, Kit, Stroke, render

LONGEST_SECONDS = 1.25
SOURCE, LICENSE = "strokepairs.py", "CC0-1.0"
RECORDED = {
    "kick": r"^bd_|^kick|rave_kick|^bassdrum|_kick$",
    "snare": r"^sn_|^snare(?!_rim)|rave_snare|nasty_snare|_snare|drum_snare",
    "rim": r"^rim|sidestick|nasty_rim|snare_rim",
    "clap": r"^clap|^perc_snap|^snaph",
    "closed hat": r"hihat_closed|hihat_foot|cymbal_closed|cymbal_pedal",
    "open hat": r"hihat_open|cymbal_open",
    "crash": r"^crash|drum_splash|cymbal_hard|cymbal_soft",
    "ride": r"^ride",
    "low tom": r"tom_lo",
    "mid tom": r"^tom\d|tom_mid",
    "high tom": r"tom_hi",
    "cowbell": r"cowbell",
    "shaker": r"^shaker",
    "block": r"^wood\d|elec_wood",
    "zap": r"^zap",
}
DRUM_SOURCES = ("lmms-common", "sonic-pi-samples")  # Debian packages whose file names contain what is struck
NUMBERED = re.compile(r"^(.*?[a-zA-Z])[-_. ]?\d+$")
LONGEST_RECORDING_SECONDS, RECORDED_SHARE = 2.5, 0.4


@dataclass(frozen=True)
class StrokePair:
    """Pair `number` of a corpus: a function of its seed and number, and of the list of recordings ("" for none)."""

    seed: int
    number: int
    recordings: str = ""
    license: str = LICENSE


@functools.cache
def find_recordings(list_file: str) -> dict[str, list[str]]:
    """Return the files of each kind of stroke, and of each sound with several recordings by folder and name; none for no list."""
    kinds: dict[str, list[str]] = defaultdict(list)
    numbered: dict[str, list[str]] = defaultdict(list)
    listed = usable_recordings(list_file)
    top = os.path.commonpath([Path(recording.path).parent for recording in listed]) if listed else ""
    for recording in listed:
        path = Path(recording.path)
        kind = next((kind for kind, pattern in RECORDED.items() if re.search(pattern, path.stem)), None)
        if kind and recording.source in DRUM_SOURCES and len(read_recording(str(path))):
            kinds[kind].append(str(path))
        elif (name := NUMBERED.match(path.stem)) and len(read_recording(str(path))):
            numbered[str(path.parent.relative_to(top) / name[1])].append(str(path))
    return dict(kinds) | {name: files for name, files in numbered.items() if len(files) > 1}


def usable_recordings(list_file: str) -> list[Recording]:
    """Return the recordings of a list whose source is neither speech nor music by its name."""
    return [recording for recording in read_list(list_file) if not re.search("asterisk|music", recording.source)]


@functools.lru_cache(4000)
def read_recording(path: str) -> Array:
    """Return a recording from its onset at a peak of 1 (time,); empty when it is unreadable, silent or longer than 2.5 s."""
    try:
        if soundfile.info(path).duration > LONGEST_RECORDING_SECONDS:
            return np.zeros(0, np.float32)
        channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        print(f"left out: {error}", file=sys.stderr)
        return np.zeros(0, np.float32)
    waveform = soxr.resample(channels.mean(1), rate, SAMPLE_RATE)
    audible = np.nonzero(np.abs(waveform) > 0.05 * np.abs(waveform).max(initial=0.0))[0]
    if not len(audible) or np.abs(waveform).max() < 1e-3:
        return np.zeros(0, np.float32)
    return normalise_peak(waveform[audible[0] :])


def play_recording(path: str, kit: Kit, rng: np.random.Generator, samples: int) -> Array:
    """Return a recording at the tuning of a kit, damped in 3 of 10 cases (samples,)."""
    sound = soxr.resample(read_recording(path)[: 2 * samples], SAMPLE_RATE, SAMPLE_RATE / kit.tuning)[:samples]
    damping = np.exp(-LN_60_DB * np.arange(len(sound)) / SAMPLE_RATE / rng.uniform(0.2, 1.5)) if rng.random() < 0.3 else 1.0
    return np.pad(sound * damping, (0, samples - len(sound)))


def render_stroke(stroke: Stroke, kit: Kit, list_file: str, samples: int) -> Array:
    """Return one stroke on a kit at its loudness (samples,): a recording for half of the kits, or always when it has no kind."""
    rng = np.random.default_rng([kit.seed, *stroke.kind.encode()])
    files = find_recordings(list_file).get(stroke.kind, [])
    if files and (stroke.kind not in KINDS or rng.random() < 0.5):
        sound = play_recording(files[int(rng.integers(len(files)))], kit, rng, samples)
    else:
        sound = render(stroke, kit, rng, samples)
    return normalise_peak(sound) * stroke.loudness


def render_phrase(strokes: list[Stroke], simultaneous: list[bool], list_file: str, rng: np.random.Generator) -> Array:
    """Return the strokes on a kit, in a tempo and in a room that are drawn here (time,)."""
    tuning, ringing = np.exp(rng.uniform([-0.2, -0.4], [0.2, 0.4])).tolist()
    kit = Kit(int(rng.integers(2**31)), tuning, ringing, float(rng.random()))
    samples, start = round(LONGEST_SECONDS * SAMPLE_RATE), float(rng.uniform(0.0, 0.12))
    interval = rng.uniform(0.1, 0.9 / max(1, len(strokes) - 1)) if len(strokes) > 1 else 0.0
    dry = np.zeros(samples)
    for number, stroke in enumerate(strokes):
        onset = round(start * SAMPLE_RATE)
        dry[onset:] += render_stroke(stroke, kit, list_file, samples - onset) * np.exp(rng.uniform(-0.5, 0.5))
        start += 0.0 if number < len(simultaneous) and simultaneous[number] else interval * rng.uniform(0.8, 1.2)
    earliest_end = onset + round(0.15 * SAMPLE_RATE)
    return record(dry[: int(rng.integers(earliest_end, samples)) if earliest_end < samples else samples], rng)


def draw_kind(list_file: str, rng: np.random.Generator) -> str:
    """Return a kind of stroke or, with recordings, in 4 of 10 cases the name of a sound of which there are several."""
    sounds = [name for name in find_recordings(list_file) if name not in KINDS]
    return str(rng.choice(sounds if sounds and rng.random() < RECORDED_SHARE else list(KINDS)))


def render_clips(pair: StrokePair) -> list[EncodedClip]:
    """Return the two encoded clips of a pair."""
    rng = np.random.default_rng([pair.seed, pair.number])
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
    strokes = [Stroke(draw_kind(pair.recordings, rng), rng.random(3), float(rng.uniform(0.4, 1.0))) for _ in range(count)]
    simultaneous = [bool(rng.random() < 0.2) for _ in strokes[1:]]
    waveforms = (
        render_phrase(strokes, simultaneous, pair.recordings, rng),
        render_phrase(strokes, simultaneous, pair.recordings, rng),
    )
    return encode_pair(f"strokes{pair.seed}-{pair.number:06d}", waveforms, Format(SAMPLE_RATE), Origin(SOURCE, pair.license))


def license_of(list_file: str) -> str:
    """Return the licences of a corpus with these recordings, joined by AND."""
    parts = (part for recording in usable_recordings(list_file) for part in recording.license.split(" AND "))
    return " AND ".join(sorted({LICENSE, *parts}))


def write_corpus(
    out: str | os.PathLike[str], clips: int = 40000, seed: int = 15, recordings: str = "", workers: int = 1, progress: bool = False
) -> Path:
    """Render `clips` clips as shards with an index; returns the path of the index.

    recordings: a JSON Lines list of recordings (see `recordings`), "" for none.
    Raises ValueError on an argument out of range, an unreadable list or one without usable recordings, FileExistsError when `out`
    holds shards, OSError when the disk is full.
    """
    check_request(Path(out), clips, seed, workers)
    license = license_of(recordings)
    if recordings and not find_recordings(recordings):
        raise ValueError(f"{recordings} has no usable recording: drums by their file names, or numbered sounds of at most 2.5 s")
    pairs = (StrokePair(seed, number, recordings, license) for number in range(clips // 2))
    rendered = render_in_order(render_clips, pairs, workers)
    return write_pairs(Path(out), rendered, clips, Format(SAMPLE_RATE), Origin(SOURCE, license), progress)


DESCRIPTION = """\
Render phrases of 1 to 5 strokes of percussion, struck, shaken or plucked: drums, cymbals, bars, bells,
strings, at 16000 Hz. Clips last at most 1.25 s.

The two clips of a pair share the kinds of the strokes, their order, and half of the size, damping and
hardness of each. Tuning, material, tempo, room, filters, saturation, level and noise differ.

With --recordings some strokes are recordings: drums whose file name contains their kind (of the Debian
packages lmms-common and sonic-pi-samples), and sounds with several recordings, wolf-1.ogg and wolf-2.ogg.
1000 clips, about 0.24 hours, take about 10 s on one core.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this kind to the command line."""
    add_output_options(parser, seed=15)
    add_clips_option(parser, clips=40000)
    parser.add_argument(
        "--recordings",
        default="",
        metavar="LIST",
        help="JSON Lines list of recordings with path, license and source on each line; their licences are listed with the clips",
    )


def run(given: argparse.Namespace) -> None:
    """Render with the options of the command line."""
    index = write_corpus(given.out, given.clips, given.seed, given.recordings, given.workers, progress=True)
    print(describe(read_index(index), given.out))


COMMAND = Command(
    "phrases of percussion, each by two kits of instruments",
    DESCRIPTION,
    "hear-ssl synth strokes --out strokes --clips 20000 --seed 15",
    add_options,
    run,
)
