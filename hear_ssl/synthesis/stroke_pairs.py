"""Render phrases of strokes, each on two sets of instruments, as doppelgänger pairs for data.positives=doppelgaenger.

python -m hear_ssl.synthesis.stroke_pairs --out strokes --clips 20000 --seed 15
python -m hear_ssl.synthesis.stroke_pairs --out strokes16 --clips 40000 --seed 16 --recordings corpus.jsonl

The two of a pair share what is struck, shaken or plucked, in which order, and half of how large, how damped and how hard it is; tuning,
material, tempo, room, filter, saturation, level and noise are drawn for each. One to five strokes, at most 1.25 s. The kinds of strokes
stand in `strokes.py`. With --recordings (the list of real_corpus.py) a stroke may be a recording too: of a kind, as its file name tells
(RECORDED), or another take of a sound of which there are two, by names that differ in their last number.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.packing.shard_writer import EncodedClip, check_free, write_rendered
from hear_ssl.synthesis.engines import LN_60_DB
from hear_ssl.synthesis.instruments import encode_twins
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.recording_chain import recorded
from hear_ssl.synthesis.recordings import listed
from hear_ssl.synthesis.strokes import KINDS, RATE, Kit, Stroke, at_peak, render

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
DRUMS = ("lmms-common", "sonic-pi-samples")  # whose file names say what is struck
TAKES = re.compile(r"^(.*?[a-zA-Z])[-_. ]?\d+$")
LONGEST_TAKE_SECONDS, RECORDED_SHARE = 2.5, 0.4


@functools.cache
def recordings(corpus: str) -> dict[str, list[str]]:
    """Return the files of each kind, and of each sound with several takes by its folder and name, of a list; none of an empty name."""
    kinds: dict[str, list[str]] = defaultdict(list)
    takes: dict[str, list[str]] = defaultdict(list)
    listed = entries(corpus)
    top = os.path.commonpath([Path(entry["path"]).parent for entry in listed]) if listed else ""
    for entry in listed:
        path = Path(entry["path"])
        kind = next((kind for kind, names in RECORDED.items() if re.search(names, path.stem)), None)
        if kind and entry["source"] in DRUMS and len(take(str(path))):
            kinds[kind].append(str(path))
        elif (numbered := TAKES.match(path.stem)) and len(take(str(path))):
            takes[str(path.parent.relative_to(top) / numbered[1])].append(str(path))
    return dict(kinds) | {name: files for name, files in takes.items() if len(files) > 1}


def entries(corpus: str) -> list[dict[str, str]]:
    """Return the entries of a list of recordings that are neither speech nor music by their package."""
    return [entry for entry in listed(corpus) if not re.search("asterisk|music", entry["source"])]


@functools.lru_cache(4000)
def take(path: str) -> Array:
    """Return a recording without the silence before it (time,), at most 1 in magnitude; an empty one where it is long or silent."""
    try:
        if soundfile.info(path).duration > LONGEST_TAKE_SECONDS:
            return np.zeros(0, np.float32)
        channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        print(f"left out: {error}", file=sys.stderr)
        return np.zeros(0, np.float32)
    waveform = soxr.resample(channels.mean(1), rate, RATE)
    loud = np.nonzero(np.abs(waveform) > 0.05 * np.abs(waveform).max(initial=0.0))[0]
    if not len(loud) or np.abs(waveform).max() < 1e-3:
        return np.zeros(0, np.float32)
    return at_peak(waveform[loud[0] :])


def replay(path: str, kit: Kit, rng: np.random.Generator, samples: int) -> Array:
    """Return a recording, faster or slower and damped as a kit has it (samples,)."""
    sound = soxr.resample(take(path)[: 2 * samples], RATE, RATE / kit.tuning)[:samples]
    damped = np.exp(-LN_60_DB * np.arange(len(sound)) / RATE / rng.uniform(0.2, 1.5)) if rng.random() < 0.3 else 1.0
    return np.pad(sound * damped, (0, samples - len(sound)))


def strike(stroke: Stroke, kit: Kit, corpus: str, samples: int) -> Array:
    """Return one stroke on a kit (samples,), loudest at its loudness; a recording where only there is one, or for half of the kits."""
    rng = np.random.default_rng([kit.seed, *stroke.kind.encode()])
    files = recordings(corpus).get(stroke.kind, [])
    if files and (stroke.kind not in KINDS or rng.random() < 0.5):
        sound = replay(files[int(rng.integers(len(files)))], kit, rng, samples)
    else:
        sound = render(stroke, kit, rng, samples)
    return at_peak(sound) * stroke.loudness


def phrase(strokes: list[Stroke], together: list[bool], corpus: str, rng: np.random.Generator) -> Array:
    """Return the strokes by a kit drawn anew, in a tempo and a room drawn anew (time,)."""
    tuning, ringing = np.exp(rng.uniform([-0.2, -0.4], [0.2, 0.4])).tolist()
    kit = Kit(int(rng.integers(2**31)), tuning, ringing, float(rng.random()))
    samples, start = round(LONGEST_SECONDS * RATE), float(rng.uniform(0.0, 0.12))
    gap = rng.uniform(0.1, 0.9 / max(1, len(strokes) - 1)) if len(strokes) > 1 else 0.0
    dry = np.zeros(samples)
    for number, stroke in enumerate(strokes):
        at = round(start * RATE)
        dry[at:] += strike(stroke, kit, corpus, samples - at) * np.exp(rng.uniform(-0.5, 0.5))
        start += 0.0 if number < len(together) and together[number] else gap * rng.uniform(0.8, 1.2)
    last = at + round(0.15 * RATE)
    return recorded(dry[: int(rng.integers(last, samples)) if last < samples else samples], rng)


def drawn(corpus: str, rng: np.random.Generator) -> str:
    """Return a kind, or with recordings at times a sound of several takes."""
    sounds = [name for name in recordings(corpus) if name not in KINDS]
    return str(rng.choice(sounds if sounds and rng.random() < RECORDED_SHARE else list(KINDS)))


def encode(job: tuple[int, int, str, str]) -> list[EncodedClip]:
    """Render and encode the pair of (seed, number, list of recordings, licence) as two clips, each with the key of the other."""
    seed, number, corpus, license = job
    rng = np.random.default_rng([seed, number])
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
    strokes = [Stroke(drawn(corpus, rng), rng.random(3), float(rng.uniform(0.4, 1.0))) for _ in range(count)]
    together = [bool(rng.random() < 0.2) for _ in strokes[1:]]
    origin = {"source": SOURCE, "license": license, "split": "train"}
    twins = phrase(strokes, together, corpus, rng), phrase(strokes, together, corpus, rng)
    return encode_twins(f"strokes{seed}-{number:06d}", twins, RATE, "flac", origin)


def main() -> None:
    """Render a corpus as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--recordings", default="", help="list of files by real_corpus.py")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    check_free(given.out)
    license = " AND ".join(sorted({LICENSE, *(part for entry in entries(given.recordings) for part in entry["license"].split(" AND "))}))
    jobs = ((given.seed, number, given.recordings, license) for number in range(given.clips // 2))
    clips = tqdm(chain.from_iterable(in_order(encode, jobs, given.workers)), total=given.clips, unit="clip")
    write_rendered(given.out, clips, given.clips, RATE, "flac", "train", SOURCE, license)


if __name__ == "__main__":
    main()
