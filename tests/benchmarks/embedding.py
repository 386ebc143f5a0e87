"""Measure CPU seconds of load_model, and clips/s of scene embeddings compared with one call per clip: python -m tests.benchmarks.embedding

Untrained encoders are packaged, and each is loaded in a new process that has imported torch. Clips are embedded in one call of
`get_scene_embeddings`. The straightforward way for comparison is one call per clip with autograd enabled: frontend, network in torch's
default memory format, with the CNN as published (BatchNorm, ReLU, then pooling), and mean + max over time. Both give the same
embeddings. Rates are clips/s of CPU time with one thread, or with --wall of wall time with --threads threads; both are measured
alternately; medians of the rounds and the range of their ratio.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from hear_ssl.files import atomic_path
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.encoders import AudioNTT
from hear_ssl.model.encoders.audio_ntt import ConvolutionBlock
from hear_ssl.model.hear import get_scene_embeddings
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.training.config import load_config
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.online_probe import embedder_checkpoint
from tests.benchmarks.cpu import VIT

ENCODERS = {
    "audio_ntt-32": ["encoder.audio_ntt.channels=32", "encoder.audio_ntt.dim=512"],
    "audio_ntt-64": [],
    "convnext": ["encoder=convnext"],
    "vit": VIT,
}
SOURCE = {"name": "none", "license": "CC0-1.0", "hours": 0.0, "clips": 0}
CARD = {"hours": 0.0, "split": "train", "sources": [SOURCE]}
LOAD = "import time; import torch; from hear_speed import load_model; "
LOAD += "t = time.process_time(); load_model(); print(time.process_time() - t)"


def load_seconds(checkpoint: Path, folder: Path) -> float:
    """Return the median CPU seconds of load_model for the packaged checkpoint in new processes."""
    package(PackageRequest(checkpoint, "hear_speed", "0.1.0", "https://example.com/w.safetensors", True, False, {}, True), folder)
    command, path = [sys.executable, "-c", LOAD], {**os.environ, "PYTHONPATH": str(folder / "hear_speed")}
    return statistics.median(float(subprocess.run(command, capture_output=True, text=True, check=True, env=path).stdout) for _ in range(3))


def straightforward(model: Embedder, clip: torch.Tensor) -> torch.Tensor:
    """Return the scene embedding (1, dim) of a clip (1, time) by a straightforward implementation."""
    features, encoder = model.frontend(clip), model.encoder
    if isinstance(encoder, AudioNTT):
        maps = features.unsqueeze(1)
        for block in encoder.convolutions:
            assert isinstance(block, ConvolutionBlock)
            convolution, norm, _, _ = block
            maps = F.max_pool2d(F.relu(norm(convolution(maps))), 2)
        local = maps.permute(0, 3, 1, 2).flatten(2)
        hidden = encoder.hidden(local)
        tokens = torch.cat([local, hidden, encoder.output(hidden)], -1)
    else:
        tokens = torch.cat([torch.cat(encoder(piece), -1) for piece in features.split(encoder.chunk_frames or features.shape[2], 2)], 1)
    return tokens.mean(1) + tokens.amax(1)


def rates(model: Embedder, audio: torch.Tensor, rounds: int, clock: Callable[[], float]) -> list[tuple[float, float]]:
    """Return clips/s by `clock` of the straightforward implementation and of ours in every round."""
    loaded = copy.deepcopy(model)
    loaded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as load_model returns it
    measured = []
    for _ in range(rounds):
        begin = clock()
        single = torch.cat([straightforward(model, clip.unsqueeze(0)) for clip in audio])
        middle = clock()
        batched = get_scene_embeddings(audio, loaded)
        end = clock()
        torch.testing.assert_close(batched, single.detach(), rtol=0, atol=1e-4)
        measured.append((len(audio) / (middle - begin), len(audio) / (end - middle)))
    return measured


def main() -> None:
    """Print the table and the time of loading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--audio-seconds", type=float, default=60.0, help="audio embedded by each side in a round")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--parts", nargs="+", default=["rates", "load"], choices=("rates", "load"), help="packaging to load takes minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="time by the clock, for more than one thread or an idle machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.wall else time.process_time
    modules = {
        name: PretrainingModule(load_config(None, ["objective.nt_xent.weight=1", *ENCODERS[name]]), CARD) for name in arguments.encoders
    }
    if "rates" in arguments.parts:
        print("| encoder | clip, s | one call per clip, clips/s | ours, clips/s | ratio |\n" + "|---" * 5 + "|")
    for name, module in modules.items() if "rates" in arguments.parts else ():
        for length in (1, 4, 10):
            audio = torch.randn(max(2, round(arguments.audio_seconds / length)), length * 16000) * 0.1
            measured = rates(module.embedder.eval(), audio, arguments.rounds, clock)
            single, ours = (statistics.median(column) for column in zip(*measured, strict=True))
            ratios = [other / one for one, other in measured]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {name} | {length} | {single:.1f} | {ours:.1f} | {spread} |", flush=True)
    for name, module in modules.items() if "load" in arguments.parts else ():
        with tempfile.TemporaryDirectory() as scratch:
            with atomic_path(Path(scratch) / "last.ckpt") as path:
                torch.save(embedder_checkpoint(module, 0), path)
            print(f"load_model of {name}: {load_seconds(Path(scratch) / 'last.ckpt', Path(scratch)):.2f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
