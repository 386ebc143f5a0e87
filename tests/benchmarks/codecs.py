"""Measure crops per second and core, and bytes per second of audio, by codec: python -m tests.benchmarks.codecs SHARDS

Clips of at least 10 s from shards are encoded in each codec of packing, and one random crop is decoded from each, as in the stream,
from bytes in memory. Rates are per CPU time of one thread; codecs are measured alternately; medians of the rounds and their range.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import time

import numpy as np
import soundfile
from numpy.typing import NDArray

from hear_ssl.data.packing.clips import FORMATS
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.decode import decode_into

CROPS = (2.08, 10.0)  # s


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    shards = ShardSet([arguments.shards])
    rate = next(iter(shards.sample_rates))
    sounds: list[NDArray[np.int16]] = []
    numbers = random.Random(0).sample(range(len(shards)), len(shards))
    while len(sounds) < arguments.clips:
        if not numbers:
            parser.error(
                f"{arguments.shards} has {len(sounds)} clips of at least {CROPS[-1]:g} s, {arguments.clips} are needed; lower --clips"
            )
        samples, _ = soundfile.read(io.BytesIO(shards.audio(shards.clip(numbers.pop()))), dtype="int16")
        if len(samples) >= CROPS[-1] * rate:
            sounds.append(samples)
    encoded: dict[str, list[bytes]] = {}
    for suffix, (kind, subtype) in FORMATS.items():
        files = [io.BytesIO() for _ in sounds]
        for file, samples in zip(files, sounds, strict=True):
            soundfile.write(file, samples, rate, format=kind, subtype=subtype)
        encoded[suffix] = [file.getvalue() for file in files]
    rates: dict[tuple[str, float], list[float]] = {(suffix, crop): [] for suffix in encoded for crop in CROPS}
    places = random.Random(1)
    for _ in range(arguments.rounds):
        for (suffix, seconds), measured in rates.items():
            crop = np.empty((1, round(seconds * rate)), np.float32)
            begin = time.process_time()
            for content in encoded[suffix]:
                decode_into(crop, content, [places.random()], rate)
            measured.append(len(sounds) / (time.process_time() - begin))
    head = ["codec", "kB a second of sound", *(f"crops of {seconds:g} s, a second of a core" for seconds in CROPS)]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    total = sum(map(len, sounds)) / rate
    for suffix, contents in encoded.items():
        columns = [rates[suffix, seconds] for seconds in CROPS]
        cells = [f"{statistics.median(column):,.0f} ({min(column):,.0f} to {max(column):,.0f})" for column in columns]
        print(f"| {suffix} | {sum(map(len, contents)) / total / 1000:.1f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
