"""Compare size, load time and speed of exported ONNX files with torch: python -m tests.benchmarks.onnx_export

Untrained models of default sizes. Speed: CPU seconds of scene embeddings of clips, one thread, with torch in the memory format of
load_model. Both are measured alternately; medians of the rounds. Load: CPU seconds in a new process, for the import and for the model.
The largest difference is that on the timed noise. Only in onnxruntime: scene and timestamp embeddings in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnxruntime
import torch

from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, embedder_config
from hear_ssl.model.hear import get_scene_embeddings
from hear_ssl.model.onnx_export import export
from hear_ssl.model.onnx_graph import KINDS
from hear_ssl.model.options import to_mapping
from hear_ssl.model.weights import serialise_tensors

PITCH = {"layout": "log", "n_fft": 4096, "n_mels": 256, "f_min": 40.0, "log_offset": 1e-8, "mean": -12.0}
MODELS: dict[str, dict[str, Any]] = {
    "audio_ntt": {},
    "audio_ntt, pitch bands": {"frontend": PITCH, "encoder": {"audio_ntt": {"channels": 32, "dim": 512, "band_pool": 4}}},
    "convnext": {"encoder": "convnext"},
    "vit": {"encoder": "vit"},
}
CLIPS = ((1, 1.0), (1, 10.0), (16, 2.0), (1, 60.0))  # clips and their seconds
START = "import sys, time; start = time.process_time(); "
TORCH = """
import json, torch
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.weights import load_weights
read = time.process_time()
model = Embedder(embedder_config(json.loads(sys.argv[2]), "model"))
load_weights(model, sys.argv[1])
"""
ONNX = """
import onnxruntime
read = time.process_time()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
END = "print(read - start, time.process_time() - read)"


def loading(code: str, *arguments: str) -> str:
    """Return the median CPU seconds of an import and of loading a model in new processes."""
    rows = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", f"{START}{code}{END}", *arguments], capture_output=True, text=True, check=True)
        rows.append([float(number) for number in done.stdout.split()])
    return " + ".join(f"{statistics.median(column):.2f}" for column in zip(*rows, strict=True))


def seconds(task: Callable[[], object]) -> float:
    """Return the CPU seconds of a task."""
    start = time.process_time()
    task()
    return time.process_time() - start


def session(content: bytes) -> onnxruntime.InferenceSession:
    """Return a session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def speeds(model: Embedder, scene: bytes, both: bytes, rounds: int) -> list[str]:
    """Return a row for each of CLIPS: CPU seconds of torch, of the scene file and of the whole file, and the largest difference."""
    of_scene, of_both, rows = session(scene), session(both), []
    for clips, length in CLIPS:
        audio = 0.1 * torch.randn(clips, int(length * model.sample_rate))
        given = {"waveform": audio.numpy()}
        tasks: list[Callable[[], object]] = [
            lambda audio=audio: get_scene_embeddings(audio, model),  # type: ignore[misc]
            lambda given=given: of_scene.run(None, given),  # type: ignore[misc]
            lambda given=given: of_both.run(None, given),  # type: ignore[misc]
        ]
        times = [[seconds(task) for task in tasks] for _ in range(rounds + 1)][1:]
        by_torch, by_scene, by_both = (statistics.median(column) for column in zip(*times, strict=True))
        difference = float((torch.from_numpy(of_scene.run(None, given)[0]) - get_scene_embeddings(audio, model)).abs().max())
        rows.append(
            f"{clips} x {length:g} s | {by_torch:.3f} | {by_scene:.3f} | {by_torch / by_scene:.2f} | {by_both:.3f} | {difference:.0e}"
        )
    return rows


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables: list[list[str]] = [[], []]
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.models:
            config: EmbedderConfig = embedder_config(MODELS[name], name)
            torch.manual_seed(0)
            model = Embedder(config).eval()
            exporting = time.process_time()
            scene, both = export(model, ("scene",), {}), export(model, KINDS, {})
            exporting = (time.process_time() - exporting) / 2.0
            weights, file = Path(scratch) / "weights.safetensors", Path(scratch) / "model.onnx"
            weights.write_bytes(serialise_tensors(model.state_dict(), {}))
            file.write_bytes(scene)
            by_torch, by_onnx = loading(TORCH, str(weights), json.dumps(to_mapping(config))), loading(ONNX, str(file))
            sizes = [f"{count / 1e6:.1f}" for count in (weights.stat().st_size, len(scene), len(both))]
            tables[0].append(f"| {name} | {' | '.join(sizes)} | {exporting:.0f} | {by_torch} | {by_onnx} |")
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            tables[1] += [f"| {name} | {row} |" for row in speeds(model, scene, both, arguments.rounds)]
            print(tables[0][-1], *tables[1][-len(CLIPS) :], sep="\n", file=sys.stderr, flush=True)
    print("| model | weights MB | scene file MB | whole file MB | export s | torch import + load s | onnxruntime import + load s |")
    print("|---|---|---|---|---|---|---|", *tables[0], sep="\n")
    print("\n| model | clips | torch s | scene file s | torch / scene file | whole file s | largest difference |")
    print("|---|---|---|---|---|---|---|", *tables[1], sep="\n")


if __name__ == "__main__":
    main()
