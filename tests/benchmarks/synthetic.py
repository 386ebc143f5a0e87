"""Measure how fast the corpus of instruments renders on one core, with and without encoding.

OMP_NUM_THREADS=1 python -m tests.benchmarks.synthetic [PAIRS]
"""

from __future__ import annotations

import sys
import time

from hear_ssl.synthesis.instruments import Corpus, Job, render_clips
from hear_ssl.synthesis.scene import KINDS


def main() -> None:
    """Print seconds of audio per second of CPU time, for all clips and for each kind of sound that is rendered alone."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    corpus = Corpus(seed=0)
    rendered: dict[str, list[float]] = {kind: [0.0, 0.0] for kind in (*KINDS, "two at once", "all")}
    for number in range(pairs):
        start = time.process_time()
        seconds = sum(len(waveform) for waveform in corpus.render(number)) / corpus.sample_rate
        spent = time.process_time() - start
        kind = corpus.pair(number).kinds[0]
        for row in (kind if kind in KINDS else "two at once", "all"):
            rendered[row][0] += seconds
            rendered[row][1] += spent
    for row, (seconds, spent) in rendered.items():
        print(f"{row:12} {seconds / max(spent, 1e-9):6.0f} x real time ({seconds:.0f} s of sound)")
    start = time.process_time()
    encoded = [sample for number in range(pairs) for sample in render_clips(Job(corpus, "flac", "train", number))]
    spent = time.process_time() - start
    seconds = sum(sample.record["seconds"] for sample in encoded)
    size = sum(len(sample.audio) for sample in encoded)
    print(f"{'with FLAC':12} {seconds / spent:6.0f} x real time, {size / seconds / 1000:.1f} kB per second of sound")


if __name__ == "__main__":
    main()
