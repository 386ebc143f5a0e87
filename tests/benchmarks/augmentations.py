"""Measure the cost of each augmentation of waveforms on one core: python -m tests.benchmarks.augmentations

A batch of 64 clips of 2 seconds, all of them augmented (chance 1), one thread, with the allocator of training; milliseconds of CPU time
per clip, the median of the rounds. Noise and impulse responses come from a temporary folder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hear_ssl.training.speed import keep_memory

CLIPS, SECONDS = 64, 2
RATES = (16000, 32000)
MOST_MS = 5.0
HEAD = """# What do the augmentations of waveforms cost?

```
OMP_NUM_THREADS=1 python -m tests.benchmarks.augmentations
```

Milliseconds of CPU time on one core for a clip of {seconds} s, in batches of {clips}, for each clip that is augmented. In training, the
mean cost per clip is this number times `chance`. Bold: more than {most:g} ms.
"""
FOLDER = "FOLDER"  # placeholder for the folder
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gain": ("gain", {}),
    "polarity": ("polarity", {}),
    "noise": ("noise", {}),
    "background": ("background", {"folder": FOLDER}),
    "other_clips": ("other_clips", {}),
    "reverb, rendered rooms": ("reverb", {}),
    "reverb, a folder of responses of 2 s": ("reverb", {"folder": FOLDER}),
    "equaliser": ("equaliser", {}),
    "low_pass": ("low_pass", {}),
    "high_pass": ("high_pass", {}),
    "low_rate": ("low_rate", {}),
    "telephone": ("telephone", {}),
    "clipping": ("clipping", {}),
    "speed": ("speed", {}),
    "pitch_shift": ("pitch_shift", {}),
    "time_shift": ("time_shift", {}),
}


def measure(name: str, given: dict[str, Any], rate: int, folder: str, rounds: int) -> float:
    """Return the milliseconds per clip of 2 s."""
    import torch

    from hear_ssl.model.options import FrontendConfig, Part, options_of
    from hear_ssl.views import AUGMENTATIONS, ViewConfig
    from hear_ssl.views.views import Views

    torch.set_num_threads(1)
    options = options_of(AUGMENTATIONS[name])
    chance = {"chance": 1.0} if hasattr(options(), "chance") else {}
    values = {key: folder if value == FOLDER else value for key, value in given.items()}
    part = Part(name, AUGMENTATIONS[name], options(**values, **chance))
    views = Views([ViewConfig(0, (part,))], FrontendConfig(sample_rate=rate), [SECONDS * rate], [100 * SECONDS])
    clips, times = 0.1 * torch.randn(CLIPS, SECONDS * rate), []
    for number in range(rounds + 2):  # the first rounds fill memories and caches
        start = time.process_time()
        views.waveforms([clips], torch.arange(CLIPS) + number * CLIPS)
        times.append(1000 * (time.process_time() - start) / CLIPS)
    return statistics.median(times[2:])


def write_sounds(folder: Path) -> None:
    """Write eight sounds of 2 s, loud at their beginning."""
    import numpy
    import soundfile

    for number in range(8):
        sound = numpy.random.default_rng(number).standard_normal(SECONDS * RATES[-1]) * 0.1
        sound[0] = 0.9
        soundfile.write(folder / f"{number}.wav", sound, RATES[-1])


def main() -> None:
    """Print the table, with values above the bound in bold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    keep_memory()  # before torch loads
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_sounds(Path(folder))
        for label, (name, options) in CASES.items():
            found = [measure(name, options, rate, folder, rounds) for rate in RATES]
            print(label, found, file=sys.stderr)
            rows.append(f"| `{label.partition(',')[0]}`{''.join(label.partition(',')[1:])} | " + " | ".join(map(cell, found)) + " |")
    print(HEAD.format(seconds=SECONDS, clips=CLIPS, most=MOST_MS))
    print(f"Measured on: {processor()}.\n")
    print("| augmentation | " + " | ".join(f"{rate // 1000} kHz, ms" for rate in RATES) + " |\n|---|" + "---|" * len(RATES))
    print("\n".join(rows))


def cell(milliseconds: float) -> str:
    """Return a cell of the table."""
    return f"{milliseconds:.2f}" if milliseconds <= MOST_MS else f"**{milliseconds:.2f}**"


def processor() -> str:
    """Return the name of the processor as Linux states it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown processor")


if __name__ == "__main__":
    main()
