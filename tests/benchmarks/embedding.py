"""Seconds of load_model and clips/s of scene embeddings, batched and one by one: python tests/benchmarks/embedding.py

Packages untrained encoders and loads each in a fresh process. One by one is the straightforward way: a call of the model a clip, with
autograd on. Clips/s of CPU time, one thread; both take turns, medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from export.package import Request, package
from hear_ssl.config import load_config
from hear_ssl.files import atomic_path
from hear_ssl.module import ContrastiveModule
from hear_ssl.probe import embedder_checkpoint
from hear_ssl.runtime.hear import get_scene_embeddings
from tests.benchmarks.cpu import VIT

ENCODERS = {"audio_ntt": ["embedder.encoder.channels=32", "embedder.encoder.dim=512"], "audio_ntt, 64 channels": [], "vit": VIT}
LOAD = "import sys, time; sys.path.insert(0, sys.argv[1]); import hear_speed; t = time.perf_counter(); hear_speed.load_model(); "
LOAD += "print(time.perf_counter() - t)"


def load_seconds(checkpoint: Path, folder: Path) -> float:
    """Return the median seconds of load_model of the packaged checkpoint in fresh processes."""
    package(Request(checkpoint, "hear_speed", "0.1.0", "https://example.com/w.safetensors", True, False, {}, True), folder)
    command = [sys.executable, "-c", LOAD, str(folder / "hear_speed")]
    return statistics.median(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--audio-seconds", type=float, default=60.0, help="audio embedded by each side in a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| encoder | load_model, s | clip, s | one by one, clips/s | batched, clips/s | ratio |\n|---|---|---|---|---|---|")
    for name, overrides in ENCODERS.items():
        source = {"name": "none", "license": "CC0-1.0", "hours": 0.0, "clips": 0}
        module = ContrastiveModule(load_config(None, overrides), {"hours": 0.0, "split": "train", "sources": [source]})
        with tempfile.TemporaryDirectory() as scratch:
            with atomic_path(Path(scratch) / "last.ckpt") as path:
                torch.save(embedder_checkpoint(module, 0), path)
            seconds = load_seconds(Path(scratch) / "last.ckpt", Path(scratch))
        model = module.embedder.eval()
        for length in (1, 4, 10):
            audio = torch.randn(max(2, round(arguments.audio_seconds / length)), length * 16000) * 0.1
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.rounds):
                begin = time.process_time()
                single = torch.cat([model.scene(clip.unsqueeze(0)) for clip in audio])
                middle = time.process_time()
                batched = get_scene_embeddings(audio, model)
                rates[0].append(len(audio) / (middle - begin))
                rates[1].append(len(audio) / (time.process_time() - middle))
                torch.testing.assert_close(batched, single.detach(), rtol=0, atol=1e-4)
            ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
            single_rate, batched_rate = (statistics.median(values) for values in rates)
            print(f"| {name} | {seconds:.2f} | {length} | {single_rate:.1f} | {batched_rate:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
