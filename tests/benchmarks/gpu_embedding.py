"""Embedding speed and memory on a GPU: python -m tests.benchmarks.gpu_embedding [MODULE ...]

Models: an untrained ViT-S, and each HEAR module given as an argument, such as hear_reference. Scene and timestamp embeddings of clips of
1, 4 and 10 s, eight minutes of audio per call: clips/s, median of five calls after two warm-up calls. Then one clip of 20 minutes, the
rule of HEAR that 18 of 29 models broke: seconds, times real time (scene and timestamps as two passes) and peak of allocated memory.
`--device cpu` runs the script on short audio with a small network, to test it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import hear_ssl.model
from hear_ssl.errors import run_main
from hear_ssl.evaluation.model_under_test import load_model_under_test
from hear_ssl.model.embedder_config import EmbedderConfig, encoder
from hear_ssl.packaging.rules.memory import minutes
from hear_ssl.packaging.rules.rows import Submission
from tests.benchmarks.gpu_meter import Device, chosen_device

SECONDS = (1, 4, 10)
CALLS, WARM = 5, 2
VIT_S = EmbedderConfig(encoder=encoder("vit", dim=384, heads=6, depth=12))
SMALL = EmbedderConfig(encoder=encoder("vit", dim=32, heads=2, depth=1))


def clips_per_second(function: Callable[..., Any], model: Any, clips: torch.Tensor, device: Device) -> float:
    """Return the median clips/s of a function of the API over its calls."""
    taken = []
    for _ in range(WARM + CALLS):
        device.wait()
        began = time.perf_counter()
        function(clips, model)
        device.wait()
        taken.append(time.perf_counter() - began)
    return len(clips) / statistics.median(taken[WARM:])


def lines(name: str, module: Any, model: Any, device: Device) -> list[str]:
    """Return the rows of a model: clips/s by clip length, then one clip of 20 minutes."""
    model, rate = model.to(device.name), int(model.sample_rate)
    total, found = 480 if device.cuda else 20, []
    for seconds in SECONDS:
        clips = torch.rand(total // seconds, seconds * rate, device=device.name) - 0.5
        functions = (module.get_scene_embeddings, module.get_timestamp_embeddings)
        scene, timestamps = (clips_per_second(function, model, clips, device) for function in functions)
        found.append(f"| {name} | {len(clips)} x {seconds} s | {scene:,.0f} | {timestamps:,.0f} | | |")
    device.fresh_memory()
    count = 20 if device.cuda else 1
    long = minutes(Submission(module, model, None), count, gpu=device.cuda)
    return [*found, f"| {name} | {count} min | | | {long.seconds:.2f} s, {long.speed:,.0f} times real time | {long.peak:.2f} GB |"]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table. Raises ValueError without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args(arguments)
    device = chosen_device(given.device, "gpu_embedding")
    loaded = {name: load_model_under_test(name) for name in given.modules}
    torch.manual_seed(0)
    models = {"ViT-S": (hear_ssl.model, hear_ssl.model.Embedder(VIT_S if device.cuda else SMALL).eval())}
    models.update({name: (one.module, one.model) for name, one in loaded.items()})
    print(f"{torch.cuda.get_device_name() if device.cuda else 'cpu, short audio'}, torch {torch.__version__}\n")
    print("| model | audio | scenes, clips/s | timestamps, clips/s | time | peak memory |\n|---|---|---|---|---|---|", flush=True)
    for name, (module, model) in models.items():
        print("\n".join(lines(name, module, model, device)), flush=True)


if __name__ == "__main__":
    run_main(main)
