"""What timestamps of a run are worth for onsets: layers and hops of its timestamp embedding on drum events with rotated drum kits.

python examples/reference/timestamp_hops.py BUILD AUDIO RUN [--rotations 1 2] [--choices concat,1 concat,2 last,2]

BUILD is the script that builds the four development tasks, AUDIO the folder it reads. Its task of drum events has one split of the
kits and 14 test clips, too few to tell compositions apart; rotation 1 tests the same kits on other mixtures, 2, 3 and 0 others. A choice
is timestamp.layers and timestamp.per_token. One predictor of the fast grid each, onset F at 50 ms.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from hear_ssl.checkpoint import embedder_from_checkpoint
from hear_ssl.evaluation.protocol.grid import FAST_EVENTS
from hear_ssl.evaluation.protocol.predictor import PredictorSettings
from hear_ssl.evaluation.protocol.score_task import Fold, LabelledRows, test_scores, train_predictor
from hear_ssl.evaluation.tasks.task_format import Task
from hear_ssl.model.embedder import Embedder

LABELS = ("cowbell", "crash", "hihat_closed", "hihat_open", "kick", "ride", "snare", "tom")
COUNTS = {"train": 30, "valid": 8, "test": 14}
SCORE = "event_onset_50ms_fms"
RATE, SECONDS = 16000, 20


def load_build(script: Path, audio: Path) -> ModuleType:
    """Return the build script as a module; pitches need a package that drums do not."""
    sys.modules.setdefault("pretty_midi", ModuleType("pretty_midi"))
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location("build", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    arguments, sys.argv = sys.argv, [str(script), str(audio), str(audio)]
    spec.loader.exec_module(module)
    sys.argv = arguments
    return module


def mixtures(build: ModuleType, rotation: int) -> dict[str, list[tuple[torch.Tensor, list[tuple[str, float, float]]]]]:
    """Return clips (time,) with their events by split, mixed as the task is, its kits rotated and its noise drawn anew."""
    rng = np.random.default_rng(100 + rotation)
    pools: dict[str, list[Any]] = {split: [] for split in COUNTS}
    for place, (_, files) in enumerate(sorted(build.drum_files().items(), key=lambda kit: (-len(kit[1]), kit[0]))):
        pools["test" if place % 4 == rotation else "valid" if place % 4 == (rotation + 2) % 4 else "train"] += files
    splits: dict[str, list[tuple[torch.Tensor, list[tuple[str, float, float]]]]] = {split: [] for split in COUNTS}
    for split, count in COUNTS.items():
        by_label = {label: [path for kind, path in pools[split] if kind == label] for label in LABELS}
        have = [label for label in LABELS if by_label[label]]
        for _ in range(count):
            white = rng.standard_normal(RATE * SECONDS)
            pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(1, len(white) // 2 + 2)), n=len(white))
            waveform = (pink / np.abs(pink).max() * rng.choice([0.01, 0.03, 0.08])).astype(np.float32)
            events, start = [], float(rng.uniform(0.2, 1.0))
            while start < 18.5:
                label = have[rng.integers(len(have))]
                path = by_label[label][rng.integers(len(by_label[label]))]
                hit = build.peak(build.read_mono(path, RATE), float(rng.uniform(0.2, 0.7)))
                loud = np.where(np.abs(hit) > 0.05 * np.abs(hit).max())[0]
                hit, first = hit[loud[0] : loud[-1]][: int(0.9 * RATE)], int(start * RATE)
                hit = hit[: len(waveform) - first]
                waveform[first : first + len(hit)] += hit
                events.append((label, start * 1000, (start + max(len(hit) / RATE, 0.06)) * 1000))
                start += float(rng.uniform(0.15, 0.9))
            splits[split].append((torch.from_numpy(waveform), events))
    return splits


@torch.inference_mode()
def rows(clips: list[tuple[torch.Tensor, list[tuple[str, float, float]]]], embedder: Embedder) -> LabelledRows:
    """Return the frames of clips as the predictor takes them."""
    embeddings, targets, places, times, start = [], [], [], [], 0
    for number, (waveform, events) in enumerate(clips):
        frames, timestamps_ms = embedder.timestamps(waveform.unsqueeze(0))
        ms, wanted = timestamps_ms[0].double().numpy(), torch.zeros(frames.shape[1], len(LABELS))
        for label, begin, end in events:
            wanted[(ms >= begin) & (ms <= end), LABELS.index(label)] = 1.0
        embeddings.append(frames[0].clone())
        targets.append(wanted)
        places.append((str(number), slice(start, start + len(ms))))
        times.append(ms)
        start += len(ms)
    truth = {str(number): list(events) for number, (_, events) in enumerate(clips)}
    return LabelledRows(torch.cat(embeddings), torch.cat(targets), places, np.concatenate(times), truth)


def main() -> int:
    """Print a line a choice and rotation, then a choice's mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rotations", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--choices", nargs="+", default=["concat,1", "concat,2", "last,2"])
    given = parser.parse_args()
    build, (trained, _) = load_build(given.build, given.audio), embedder_from_checkpoint(given.run)
    settings = PredictorSettings(**{name: values[0] for name, values in FAST_EVENTS.items()})
    grid = {"median_filter_ms": [100], "min_duration": [50]}
    kind = ("drum_events", "event", "multilabel", "trainvaltest")
    task = Task(Path(), *kind, tuple(COUNTS), (SCORE,), LABELS, {}, parameters={"event_postprocessing_grid": grid})
    for choice in given.choices:
        layers, per_token = choice.split(",")
        composition = replace(trained.config.timestamp, layers=layers, per_token=int(per_token))
        embedder = Embedder(replace(trained.config, timestamp=composition))
        embedder.load_state_dict(trained.state_dict())
        embedder.eval()
        scores = []
        for rotation in given.rotations:
            began = time.process_time()
            splits = {split: rows(clips, embedder) for split, clips in mixtures(build, rotation).items()}
            fold = Fold.of(splits, {split: [split] for split in splits}, [settings])
            scores.append(test_scores(task, train_predictor(task, settings, fold, 1), splits["test"])[SCORE] or 0.0)
            print(f"{choice} rotation {rotation}: {scores[-1]:.3f}, {time.process_time() - began:.0f} s", flush=True)
        print(f"{choice}: mean {statistics.fmean(scores):.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
