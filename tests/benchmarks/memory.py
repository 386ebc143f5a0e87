"""Measure peak memory and speed on minutes of audio, and the difference between chunks and whole clips, for every encoder.

taskset -c 1 python -m tests.benchmarks.memory

Each encoder runs in a separate process with one thread. "beyond" is the peak of resident memory minus weights and
embeddings: interpreter, torch, audio and activations. Speed is audio seconds per CPU-second of one function of the API.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import torch

import hear_ssl.model
from hear_ssl.model.embedder_config import EmbedderConfig, encoder
from hear_ssl.packaging.rules.memory import minutes, size_gb
from hear_ssl.packaging.rules.rows import Submission

ENCODERS = {
    "audio_ntt 32/512": encoder("audio_ntt", channels=32, dim=512),
    "audio_ntt 64/1024": encoder("audio_ntt", channels=64, dim=1024),
    "convnext 64/1024 x 6": encoder("convnext", channels=64, dim=1024, depth=6),
    "vit 192 x 12": encoder("vit", dim=192, heads=3, depth=12),
}
CLIPS = ((10, 1), (20, 1), (5, 4))


def measure(name: str) -> str:
    """Return the lines of one encoder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    model = hear_ssl.model.Embedder(EmbedderConfig(encoder=ENCODERS[name])).eval()
    weights = sum(size_gb(parameter) for parameter in model.parameters())
    cells = []
    for count, batch in CLIPS:
        clip = minutes(Submission(hear_ssl.model, model, None), count, batch)
        cells.append(f"{clip.peak:.2f} / {clip.peak - clip.own:.2f}")
        assert clip.finite
        assert clip.whole
    if gpu:
        clip = minutes(Submission(hear_ssl.model, model.cuda(), None), 20, gpu=True)
        cells.append(f"GPU {clip.peak:.2f} / {clip.peak - clip.own:.2f}")
        model.cpu()
    speeds = " / ".join(
        f"{speed:.0f}"
        for speed in (speed_of(model, hear_ssl.model.get_scene_embeddings), speed_of(model, hear_ssl.model.get_timestamp_embeddings))
    )
    return f"| {name} | {weights * 1000:.0f} MB | {' | '.join(cells)} | {speeds} | {chunks_against_whole(model):.1e} |"


def speed_of(model: hear_ssl.model.Embedder, function: object) -> float:
    """Return the median of three: audio seconds per CPU-second on 2 minutes."""
    audio, times = torch.rand(1, 120 * model.sample_rate) - 0.5, []
    for _ in range(3):
        start = time.process_time()
        function(audio, model)  # type: ignore[operator]
        times.append(time.process_time() - start)
    return 120.0 / sorted(times)[1]


def chunks_against_whole(model: hear_ssl.model.Embedder) -> float:
    """Return the largest difference between the embeddings of one minute in chunks and in one piece, relative to the largest value."""
    audio, results = torch.rand(1, 60 * model.sample_rate) - 0.5, []
    for chunk_frames in (model.config.chunk_frames, 10**6):
        model.config = replace(model.config, chunk_frames=chunk_frames)
        results.append((hear_ssl.model.get_scene_embeddings(audio, model), hear_ssl.model.get_timestamp_embeddings(audio, model)[0]))
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(*results, strict=True))


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        print(measure(sys.argv[1]), flush=True)
        return
    print(f"torch {torch.__version__.partition('+')[0]}, one thread")
    columns = "10 min: peak / beyond, GB | 20 min | 4 x 5 min | times real time: scene / timestamps | chunks against whole"
    print(f"| encoder | weights | {columns} |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in ENCODERS:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
