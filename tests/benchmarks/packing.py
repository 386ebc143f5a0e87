"""Measure the cost of saving after many clips, and the memory for long recordings.

python -m tests.benchmarks.packing state
python -m tests.benchmarks.packing long FOLDER --hours 1 24 --kinds flac mp3 wav

`state` appends the entries of shards of 512 clips to the log of a packing, as pack does, and writes some real shards for comparison.
`long` creates recordings of noise at 8 kHz in FOLDER, packs each with one worker, and prints the peak of resident memory of any process;
"own" is the part that is not backed by a file (RssAnon), which the system cannot release.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from hear_ssl.data.packing.clips import PackedClip, PackOptions
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.pack import Packer, load_state
from hear_ssl.data.packing.shard_writer import write_shard

RATE = 8000
SHARD = 512
POINTS = (10_000, 100_000, 500_000, 1_000_000, 2_000_000)  # clips
MEASURED = 20  # shards at each point


def clip(number: int) -> PackedClip:
    """Return a clip of a hundred bytes with a unique hash."""
    record = {"source": "s", "path": f"{number}.wav", "license": "CC0-1.0", "split": "train", "offset_seconds": 0.0, "seconds": 10.0}
    return PackedClip(f"clip-{number:012x}-0000", "flac", b"\0" * 100, record, np.random.default_rng(number).bytes(20).hex())


def state() -> None:
    """Print the time of saving per clip at several numbers of clips."""
    with tempfile.TemporaryDirectory() as folder:
        header = {"fingerprint": "f", "split": "train", "part": None}
        packer = Packer([Item("/s/a.wav", "a.wav", "s", "CC0-1.0", "train")], Path(folder), PackOptions(), header, SHARD)
        real_shard, count, print_at = write_shard(Path(folder, "train-x.tar"), map(clip, range(SHARD))), 0, list(POINTS)
        print("| clips packed | state, us per clip | shard of clips of 100 bytes, us per clip | memory, MB |\n|---|---|---|---|")
        times: list[float] = []
        while print_at:
            clips = [clip(count + number) for number in range(SHARD)]
            began = time.perf_counter()
            for one in clips:
                packer.take(one, packer.items[0])
            packer.save_record(real_shard)
            times.append((time.perf_counter() - began) / SHARD)
            count += SHARD
            if count >= print_at[0]:
                began = time.perf_counter()
                write_shard(Path(folder, "train-y.tar"), clips)
                shard = (time.perf_counter() - began) / SHARD
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
                print(f"| {print_at.pop(0):,} | {np.median(times[-MEASURED:]) * 1e6:.1f} | {shard * 1e6:.0f} | {memory:.0f} |", flush=True)
        began = time.perf_counter()
        load_state(Path(folder), header)
        print(f"\nreading the log of {count:,} clips again: {time.perf_counter() - began:.1f} s")


def noise(seconds: int) -> Iterator[NDArray[np.float32]]:
    """Yield noise (time,) minute by minute."""
    generator = np.random.default_rng(0)
    for _ in range(seconds // 60):
        yield (generator.standard_normal(60 * RATE) * 0.01).astype(np.float32)


def recording(folder: Path, hours: int, kind: str) -> Path:
    """Return a recording of `hours` hours, created if it does not exist."""
    path = folder / f"{hours}h.{kind}"
    if path.exists():
        return path
    if kind == "mp3":  # its frames are independent: repeat those of ten minutes after the frame that states a length
        once = folder / "once.mp3"
        with soundfile.SoundFile(once, "w", RATE, 1, format="MP3") as file:
            for block in noise(600):
                file.write(block)
        content = once.read_bytes()
        frames = content[content.index(content[:2], 100) :] if b"Info" in content[:200] or b"Xing" in content[:200] else content
        path.write_bytes(b"")
        with open(path, "ab") as out:
            for _ in range(6 * hours):
                out.write(frames)
        return path
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for block in noise(3600 * hours):
            file.write(block)
    return path


def anonymous(root: int) -> int:
    """Return the largest RssAnon in kB of a process and those below it."""
    found, largest = [root], 0
    while found:
        process = Path("/proc", str(found.pop()))
        with suppress(OSError, StopIteration, ValueError):
            lines = (process / "status").read_text().splitlines()
            largest = max(largest, int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))
            found += map(int, (process / "task" / process.name / "children").read_text().split())
    return largest


def long(folder: Path, hours: list[int], kinds: list[str]) -> None:
    """Print the peak of memory during the packing of recordings of several lengths."""
    print("| recording | size, MB | clips | shards of 512 | peak, MB | own, MB | seconds |\n|---|---|---|---|---|---|---|")
    for kind in kinds:
        for length in hours:
            path = recording(folder, length, kind)
            with tempfile.TemporaryDirectory(dir=folder) as out:
                command = [sys.executable, "-m", "tests.benchmarks.packing", "one", str(path), out]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {length} h {kind} | {path.stat().st_size / 1e6:.0f} | {done.stdout.strip()} |", flush=True)


def one(path: Path, out: Path) -> None:
    """Pack a recording and print the result and the peak of memory, in a separate process because of ru_maxrss."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "hear_ssl.data.pack", str(path), "--out", str(out), "--sample-rate", str(RATE), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    own = 0
    while process.poll() is None:
        own = max(own, anonymous(process.pid))
        time.sleep(0.2)
    assert process.stdout is not None
    words = process.stdout.read().split()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{words[1]} | {words[5]} | {peak / 1000:.0f} | {own / 1000:.0f} | {time.perf_counter() - began:.0f}")


def main() -> None:
    """Measure the part given on the command line."""
    parser = argparse.ArgumentParser(description="Measure the cost of saving after many clips, and the memory for long recordings.")
    parser.add_argument("what", choices=("state", "long", "one"))
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--hours", nargs="+", type=int, default=[1, 24])
    parser.add_argument("--kinds", nargs="+", default=["flac", "mp3", "wav"])
    arguments = parser.parse_args()
    if arguments.what == "state":
        state()
    elif arguments.what == "long":
        long(arguments.paths[0], arguments.hours, arguments.kinds)
    else:
        one(*arguments.paths)


if __name__ == "__main__":
    main()
