"""Train with random SIGKILLs, a flaky server and damaged shards, and check by a log that every clip was delivered.

python -m tests.benchmarks.soak --out DIR [--minutes 30] [--seed 0] [--runs 2]

The server truncates, stalls, resets, refuses or falsifies a fifth of its responses. One shard is missing, one has a damaged header, and
some clips contain no audio. The cache has space for two windows of the shards, for any number of runs. For two thirds of the time a
SIGKILL is sent every 15 to 60 s to all processes of a run, to its training process or to one decoding worker, and the run is resumed;
in the last third nothing is killed and memory is sampled. At the end, the log of each run must contain every clip of every complete pass
exactly once, or list it as lost with its shard; repeated steps must deliver the same clips, and memory must not grow.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_ssl.data.packing.shard_writer import EncodedClip, write_shard
from hear_ssl.data.shards.clip_offsets import read_clips
from hear_ssl.data.shards.shard_index import ShardIndex, SourceRecord, read_index, write_index
from hear_ssl.data.stream.sample_order import SampleOrder
from hear_ssl.errors import run_main
from hear_ssl.files import sha256_of
from tests.data.sounds import encoded

ROOT = Path(__file__).resolve().parents[2]
SHARDS, CLIPS, BATCH, WINDOW = 24, 40, 16, 3
FAULTS = ("truncated", "stalled", "reset", "500", "wrong bytes")
STALL_SECONDS = 2.0
GONE, DAMAGED, BROKEN = "train-000007.tar", "train-000011.tar", "train-000015.tar"


def make_shards(folder: Path, seed: int) -> None:
    """Write shards of short noise; damage one in a header, and the audio of some clips of another."""
    generator, records = np.random.default_rng(seed), []
    for shard in range(SHARDS):
        clips = []
        for clip in range(CLIPS):
            audio = encoded(generator.uniform(-0.5, 0.5, 8000).astype(np.float32), 16000, "FLAC")
            clips.append(EncodedClip(f"s{shard:02d}-{clip:03d}", "flac", audio, {"seconds": 0.5}))
        records.append(write_shard(folder / f"train-{shard:06d}.tar", clips))
    for name, places in (
        (DAMAGED, [read_clips(folder / DAMAGED)[25].offset - 300]),
        (BROKEN, [c.offset for c in read_clips(folder / BROKEN)[::9]]),
    ):
        with open(folder / name, "r+b") as file:
            for place in places:
                file.seek(place)
                file.write(b"\xff" * 40)
    records = [replace(record, sha256=sha256_of(folder / record.name)) for record in records]
    hours = SHARDS * CLIPS * 0.5 / 3600
    source = (SourceRecord("soak", "CC0-1.0", hours, SHARDS * CLIPS),)
    write_index(folder, ShardIndex(16000, "flac", "train", hours, SHARDS * CLIPS, tuple(records), source, {}))


def serve(folder: Path, seed: int) -> tuple[str, Counter[str]]:
    """Serve the folder unreliably from a thread; return its address and the counts of its responses."""
    answers: Counter[str] = Counter()
    chance = random.Random(seed)

    class Flaky(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            fault = "404" if name == GONE else chance.choice(FAULTS) if chance.random() < 0.2 else "right"
            answers[fault] += 1
            if fault in ("404", "500"):
                self.send_error(int(fault))
                return
            content = (folder / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault == "wrong bytes" and name.endswith(".tar"):
                content = content[:-1] + bytes([content[-1] ^ 1])
            if fault != "reset":
                self.wfile.write(content[: len(content) // 2] if fault in ("truncated", "stalled") else content)
            if fault == "stalled":
                self.wfile.flush()
                time.sleep(2.0 * STALL_SECONDS)

        def log_message(self, *arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", answers


def train(out: Path, address: str, seed: int, resume: bool) -> None:
    """Run the training of fit.py in this process, with a log line for every batch that is trained on."""
    from hear_ssl import download
    from hear_ssl.data.stream.batch import Batch
    from hear_ssl.training.batch_datamodule import BatchDataModule
    from hear_ssl.training.config import load_config
    from hear_ssl.training.datamodule import ShardDataModule
    from hear_ssl.training.trainer import fit

    download.TIMEOUT_SECONDS = STALL_SECONDS
    count = ShardDataModule.count
    log = open(out / "log.jsonl", "a", buffering=1)  # noqa: SIM115 - open until the process is killed

    def logged(self: BatchDataModule, batch: Batch) -> None:
        assert self.trainer is not None
        lost = [f"{Path(loss.shard).name}/{loss.key}" for loss in batch.lost]
        log.write(json.dumps([self.trainer.global_step, batch.keys, lost]) + "\n")
        count(self, batch)

    ShardDataModule.count = logged  # type: ignore[method-assign]
    options = [
        f"data.shards={address}",
        f"run={out / 'run'}",
        f"data.cache={out.parent / 'cache'}",
        f"seed={seed}",
        f"data.window_shards={WINDOW}",
    ]
    options += [
        f"data.cache_gb={cache_gb(out.parent):.9f}",
        f"data.batch_size={BATCH}",
        "data.crops.0.seconds=0.4",
        "data.workers=2",
        "trainer.steps=1000000",
    ]
    options += ["data.max_lost_fraction=0.2", "trainer.checkpoint_every=25", "trainer.log_every=5", "trainer.threads=1", "wandb=disabled"]
    options += ["encoder.audio_ntt.channels=4", "encoder.audio_ntt.dim=32", "trainer.collapse_rank=0"]
    fit(load_config(ROOT / "configs/base.yaml", options), resume)


def cache_gb(out: Path) -> float:
    """Return a size limit for two windows and a little more."""
    return 2.4 * WINDOW * max(record.bytes for record in read_index(out / "served").shards) / 1e9


def processes(group: int) -> dict[int, int]:
    """Return the processes of a group: id -> id of the parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    return found


def resident_mb(group: int) -> float:
    """Return the resident memory of all processes of a group in MB; shared memory counts in each process."""
    total = 0
    for process in processes(group):
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    return total / 1e6


def kill(process: subprocess.Popen[bytes], target: str) -> None:
    """SIGKILL all processes of a run, its training process, or one worker; the others must end by themselves within a minute."""
    alive = processes(process.pid)
    workers = [child for child, parent in alive.items() if parent not in (process.pid, os.getpid())]
    if target == "all" or not workers:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid if target == "training" else workers[0], signal.SIGKILL)
    status = process.wait(60)
    assert status == (2 if target == "worker" and workers else -signal.SIGKILL), f"exit status {status} after a SIGKILL of {target}"
    deadline = time.monotonic() + 60
    while processes(process.pid):
        assert time.monotonic() < deadline, f"processes are left after a SIGKILL of {target}"
        time.sleep(0.2)


def prove(out: Path, seed: int) -> dict[str, Any]:
    """Check the log against the order and return counts. Raises AssertionError at the first contradiction."""
    index = read_index(out.parent / "served")
    keys = [f"s{shard:02d}-{clip:03d}" for shard in range(SHARDS) for clip in range(CLIPS)]
    order = SampleOrder([record.clips for record in index.shards], seed, WINDOW)
    steps: dict[int, Any] = {}
    again = 0
    for line in (out / "log.jsonl").read_text().splitlines():
        try:
            step, clips, lost = json.loads(line)
        except ValueError:
            continue  # a line that was interrupted by a kill
        assert steps.setdefault(step, [clips, lost]) == [clips, lost], f"step {step} was delivered in two ways"
        again += 1
    again -= len(steps)
    assert sorted(steps) == list(range(len(steps))), "a step is missing"
    passes: dict[int, Counter[int]] = {}
    lost_total = 0
    for step, (clips, lost) in steps.items():
        for position, clip in zip(order.batch(step, BATCH), clips, strict=True):
            place = order.at(position)
            shard, number = divmod(place.clip, CLIPS)
            names = {f"{index.shards[shard].name}/{name}" for name in (keys[place.clip], f"clip {number}")}
            delivered = clip == keys[place.clip]
            assert delivered or names & set(lost), f"step {step}: clip {keys[place.clip]} of shard {shard} is neither there nor named"
            lost_total += not delivered
            passes.setdefault(place.pass_number, Counter())[place.clip] += 1
    whole = [number for number, clips in passes.items() if len(clips) == len(keys)]
    assert all(set(passes[number].values()) == {1} for number in whole), "a clip came twice in a pass"
    assert whole == list(range(len(whole)))
    return {
        "steps": len(steps),
        "steps run again": again,
        "whole passes": len(whole),
        "clips delivered": len(steps) * BATCH - lost_total,
        "clips lost": lost_total,
    }


def live(out: Path, address: str, minutes: float, seed: int) -> str:
    """Train one run in `out`, kill and resume it, check its log, and return the counts."""
    out.mkdir()
    chance, end, kills, memory = random.Random(seed), time.time() + 60 * minutes, Counter[str](), []
    last = end - 20 * minutes
    while time.time() < end - 5:
        resume = (out / "run" / "checkpoints" / "last.ckpt").exists()
        if not resume and (out / "run").exists():
            subprocess.run(["rm", "-rf", str(out / "run"), str(out / "log.jsonl")], check=True)
        worker = ["-m", "tests.benchmarks.soak", "--out", str(out), "--seed", str(seed), "--child", address]
        command = [sys.executable, *worker, *(["--resume"] if resume else [])]
        with open(out / "output.txt", "a") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        until = time.time() + chance.uniform(15, 60) if time.time() < last else end
        while time.time() < until and process.poll() is None:
            time.sleep(2)
            if until == end:
                memory.append(resident_mb(process.pid))
        assert process.poll() is None, f"the training ended by itself; see {out / 'output.txt'}"
        target = chance.choice(["all", "training", "worker"]) if until < end else "all"
        kill(process, target)
        kills[target] += 1
    memory = memory[len(memory) // 5 :]
    third = len(memory) // 3
    first, final = (float(np.median(part)) for part in (memory[:third], memory[-third:]))
    counted = ", ".join(f"{name} {value}" for name, value in prove(out, seed).items())
    assert final < 1.03 * first, f"memory grew from {first:.0f} to {final:.0f} MB"
    return f"seed {seed}: SIGKILLs {dict(kills)}, {counted}, memory of the last life, first and last third: {first:.0f} MB, {final:.0f} MB"


def soak(out: Path, minutes: float, seed: int, runs: int) -> None:
    """Train runs with different seeds that share a server and a cache; print the result of each."""
    make_shards(out / "served", seed)
    address, answers = serve(out / "served", seed)
    with ThreadPoolExecutor(runs) as pool:
        lives = [pool.submit(live, out / f"run-{number}", address, minutes, seed + number) for number in range(runs)]
    for result in lives:
        print(result.result())
    print(f"server's answers {dict(answers)}")
    print("every clip of every whole pass was delivered exactly once or named as lost")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1, help="runs at once that share the cache")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        train(Path(arguments.out), arguments.child, arguments.seed, arguments.resume)
    else:
        soak(Path(arguments.out), arguments.minutes, arguments.seed, arguments.runs)


if __name__ == "__main__":
    run_main(main)
