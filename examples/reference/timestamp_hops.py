"""Compare layers and hops of a run's timestamp embedding by the onset score of drum events, on several splits of the drum kits.

    python -m examples.reference.timestamp_hops AUDIO RUN [--rotations 1 2] [--choices all,1 all,2 last,2]

AUDIO is the folder of `fetch_audio.py`. The task dev_drum_events has one split of the kits and 14 test clips, too few to compare
readouts. Rotation 1 tests the kits of the task with other mixtures, rotations 2, 3 and 0 test other kits. A choice is the option layers of
the readout tokens, and timestamps_per_token. Each is scored by one predictor of the fast grid, onset F-measure at 50 ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from examples.reference.build_tasks import EVENT_COUNTS, EVENT_LABELS, mix_hits, split_kits
from hear_ssl.checkpoint import embedder_from_checkpoint
from hear_ssl.errors import run_main
from hear_ssl.evaluation.protocol.grid import FAST_EVENTS
from hear_ssl.evaluation.protocol.predictor import PredictorSettings
from hear_ssl.evaluation.protocol.score_task import Fold, LabelledRows, test_scores, train_predictor
from hear_ssl.evaluation.tasks.task_format import Task
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import readout

SCORE = "event_onset_50ms_fms"
Mixture = tuple[torch.Tensor, list[tuple[str, float, float]]]  # a clip (time,) with its events


def mixtures(audio: Path, rotation: int) -> dict[str, list[Mixture]]:
    """Return clips by split, mixed as in the task but with rotated kits and new noise."""
    rng, hits = np.random.default_rng(100 + rotation), split_kits(audio, rotation)
    splits: dict[str, list[Mixture]] = {split: [] for split in EVENT_COUNTS}
    for split, count in EVENT_COUNTS.items():
        for _ in range(count):
            waveform, events = mix_hits(hits[split], rng)
            splits[split].append((torch.from_numpy(waveform), [(event["label"], event["start"], event["end"]) for event in events]))
    return splits


@torch.inference_mode()
def rows(clips: list[Mixture], embedder: Embedder) -> LabelledRows:
    """Return the frames of clips as rows for the predictor."""
    embeddings, targets, places, times, start = [], [], [], [], 0
    for number, (waveform, events) in enumerate(clips):
        frames, timestamps_ms = embedder.timestamps(waveform.unsqueeze(0))
        ms, wanted = timestamps_ms[0].double().numpy(), torch.zeros(frames.shape[1], len(EVENT_LABELS))
        for label, begin, end in events:
            wanted[(ms >= begin) & (ms <= end), EVENT_LABELS.index(label)] = 1.0
        embeddings.append(frames[0].clone())
        targets.append(wanted)
        places.append((str(number), slice(start, start + len(ms))))
        times.append(ms)
        start += len(ms)
    truth = {str(number): list(events) for number, (_, events) in enumerate(clips)}
    return LabelledRows(torch.cat(embeddings), torch.cat(targets), places, np.concatenate(times), truth)


def main() -> int:
    """Print a line per choice and rotation, and the mean of each choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rotations", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--choices", nargs="+", default=["all,1", "all,2", "last,2"])
    given = parser.parse_args()
    trained, _ = embedder_from_checkpoint(given.run)
    settings = PredictorSettings(**{name: values[0] for name, values in FAST_EVENTS.items()})
    grid = {"median_filter_ms": [100], "min_duration": [50]}
    kind = ("drum_events", "event", "multilabel", "trainvaltest")
    task = Task(Path(), *kind, tuple(EVENT_COUNTS), (SCORE,), EVENT_LABELS, {}, parameters={"event_postprocessing_grid": grid})
    for choice in given.choices:
        layers, per_token = choice.split(",")
        readouts = tuple(readout("tokens", layers=layers) if part.name == "tokens" else part for part in trained.config.timestamp)
        embedder = Embedder(replace(trained.config, timestamp=readouts, timestamps_per_token=int(per_token)))
        embedder.load_state_dict(trained.state_dict())
        embedder.eval()
        scores = []
        for rotation in given.rotations:
            began = time.process_time()
            splits = {split: rows(clips, embedder) for split, clips in mixtures(given.audio, rotation).items()}
            fold = Fold.of(splits, {split: [split] for split in splits}, [settings])
            scores.append(test_scores(task, train_predictor(task, settings, fold, 1), splits["test"])[SCORE] or 0.0)
            print(f"{choice} rotation {rotation}: {scores[-1]:.3f}, {time.process_time() - began:.0f} s", flush=True)
        print(f"{choice}: mean {statistics.fmean(scores):.3f}", flush=True)
    return 0


if __name__ == "__main__":
    run_main(main)
