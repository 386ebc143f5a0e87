"""Fit a reduction that says an embedding in fewer numbers, none of them correlated with another, and write it into a checkpoint.

python examples/reference/whiten.py CHECKPOINT --shards FOLDER [FOLDER ...] [--scene 1024] [--timestamp 768] --out RUN/checkpoints/last.ckpt

The layers and towers of an encoder say much twice, and most of what they deviate lies in few directions, which a predictor that does
not normalise its input learns first. Principal components over clips of the training corpus, with their variances part of the way to
equal (Jegou and Chum, 2012, whiten them wholly: https://hal.inria.fr/hal-00722622), say the same in fewer numbers. No label is read,
and no layer changes. A fit that was stopped goes on by the same command, from a file beside --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that the script runs from any folder

import torch

from examples.reference.combine import check_new, save_checkpoint
from examples.reference.levels import check_levels
from examples.reference.moments import CLIPS_AT_ONCE, Moments, Pass
from hear_ssl.checkpoint import PREFIX, embedder_of, find_checkpoint, load_checkpoint, without_reductions
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.errors import run_main
from hear_ssl.files import sha256_of
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.options import check_ranges, to_mapping
from hear_ssl.model.reduction import Reduction
from hear_ssl.training.datamodule import ShardDataModule

ROUNDING = 1e-7  # a component of less than this share of the variance is none
SPARE = 1.2  # times as many numbers as in the end are kept of the parts together


def fit_reduction(moments: Moments, widths: list[int], numbers: int, flatten: float, times: Sequence[float] = ()) -> Reduction:
    """Return the reduction of parts of so many `widths` onto the `numbers` largest principal components.

    Each part keeps its own of the largest components of all parts, SPARE times `numbers` together, and at least one, and counts so many
    `times` as much as it deviates, where given. A component's variance v becomes v ** (1 - flatten), up to one factor that leaves the
    sum of all variances as it is. Raises ValueError when there are not so many components.
    """
    times = times or [1.0] * len(widths)
    scale = torch.repeat_interleave(torch.tensor(times).double(), torch.tensor(widths))
    covariance = moments.covariance() * torch.outer(scale, scale)
    own = [torch.split(rows, widths, 1)[place] for place, rows in enumerate(torch.split(covariance, widths))]  # of each part alone
    blocks = [torch.linalg.eigh(block) for block in own]  # ascending
    variances = torch.cat([block.eigenvalues for block in blocks])
    least = variances.sort(descending=True).values[: round(SPARE * numbers)][-1]
    ranks = [max(1, int((block.eigenvalues >= least).sum())) for block in blocks]
    parts = [block.eigenvectors[:, len(block.eigenvalues) - rank :].T for block, rank in zip(blocks, ranks, strict=True)]
    both: torch.Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]  # (sum of ranks, sum of widths)
    values, vectors = torch.linalg.eigh(both @ covariance @ both.T)
    found = int((values > ROUNDING * values.sum()).sum())
    if found < numbers:
        raise ValueError(f"{numbers} numbers are asked for and {found} components were found; ask for fewer, or fit on more clips")
    values, vectors = values[-numbers:], vectors[:, -numbers:]
    gains = values ** (-flatten / 2.0)
    gains *= torch.sqrt(covariance.trace() / (values * gains.square()).sum())
    joint = (vectors * gains).T
    reduction = Reduction(widths, ranks, numbers)
    scaled = [part * time for part, time in zip(parts, times, strict=True)]
    with torch.no_grad():
        for layer, weight in zip([*reduction.parts, reduction.joint], [*scaled, joint], strict=True):
            layer.weight.copy_(weight)
        reduction.joint.bias.copy_(-joint @ both @ (scale * moments.mean()))
    return reduction


def timestamp_times(checkpoint: dict[str, Any], embedder: Embedder, levels: list[float]) -> list[float]:
    """Return how many times as much each part of a timestamp counts so that its towers' last layers have these levels.

    The checkpoint's own are those that `combine.py --level` gave them, 1 where it gave none. Raises ValueError unless there is one
    positive level for each tower that timestamps have.
    """
    timestamp = embedder.config.timestamp
    towers = timestamp.towers or len(embedder.encoder.tower_dims)
    check_levels("--timestamp-level", levels, towers)
    if timestamp.layers == "mean":
        raise ValueError("--timestamp-level needs layers that lie beside each other; timestamp.layers=mean adds them up")
    rounds, bands = 1 + len(timestamp.contexts_ms), timestamp.raw_mel + bool(timestamp.around_ms)
    lower = (len(embedder.timestamp_parts()) - bands) // rounds - towers
    own = checkpoint.get("tower_levels") or [1.0] * towers
    last = [level / before for level, before in zip(levels, own, strict=False)]
    return [*[1.0] * lower, *last] * rounds + [1.0] * bands


def whiten(
    checkpoint: dict[str, Any],
    embedder: Embedder,
    moments: dict[str, Moments],
    numbers: dict[str, int],
    flatten: float,
    times: dict[str, list[float]],
) -> dict[str, Any]:
    """Return a checkpoint with reductions of scenes and timestamps onto so many `numbers`; its embedder has none yet.

    Where `times` are given, each part of them counts so many times as much, see `fit_reduction`.
    """
    parts = {"scene": embedder.scene_parts(), "timestamp": embedder.timestamp_parts()}
    config, state = embedder.config, dict(checkpoint["state_dict"])
    for name, found in moments.items():
        reduction = fit_reduction(found, parts[name], numbers[name], flatten, times.get(name, ()))
        ranks = tuple(part.out_features for part in reduction.parts)
        config = replace(config, **{name: replace(getattr(config, name), reduction=(*ranks, numbers[name]))})
        state |= {f"{PREFIX}{name}_reduction.{key}": tensor for key, tensor in reduction.state_dict().items()}
    return {**checkpoint, "state_dict": state, "config": {**checkpoint["config"], **to_mapping(config)}}


def main() -> int:
    """Fit as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="run folder or checkpoint")
    parser.add_argument("--shards", nargs="+", required=True, metavar="FOLDER", help="packed clips to fit on, as data.shards of a training")
    parser.add_argument("--weights", nargs="+", type=float, default=[], metavar="SHARE", help="share of the clips for each folder")
    parser.add_argument("--clips", type=int, default=4096, help="how many clips to fit on; more steady with more than there are numbers")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip")
    parser.add_argument("--scene", type=int, default=0, metavar="NUMBERS", help="numbers of a scene embedding; 0 leaves scenes as they are")
    parser.add_argument("--timestamp", type=int, default=0, metavar="NUMBERS", help="the same of a timestamp embedding")
    parser.add_argument(
        "--timestamp-towers", type=int, metavar="TOWERS", help="of a combined checkpoint, those that timestamps have: the first"
    )
    parser.add_argument(
        "--timestamp-level", nargs="+", type=float, default=[], metavar="TIMES", help="levels of these in timestamps; without, as in scenes"
    )
    parser.add_argument(
        "--flatten", type=float, default=0.25, metavar="SHARE", help="how far variances are made equal: 0 not at all, 1 wholly (whitening)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.ckpt", help="checkpoint to write")
    given = parser.parse_args()
    numbers = {name: count for name, count in (("scene", given.scene), ("timestamp", given.timestamp)) if count}
    if min(numbers.values(), default=0) < 1 or given.clips < 2 or not 0.0 <= given.flatten <= 1.0:
        raise ValueError("give --scene or --timestamp of 1 or more, --clips of 2 or more, and --flatten from 0 to 1")
    if given.timestamp_level and not given.timestamp:
        raise ValueError("--timestamp-level changes nothing without --timestamp; give it the numbers of a timestamp, or leave both out")
    check_new(given.out)
    checkpoint = load_checkpoint(given.checkpoint)
    if given.timestamp_towers is not None:
        checkpoint["config"].setdefault("timestamp", {})["towers"] = given.timestamp_towers
    embedder = embedder_of(checkpoint, given.checkpoint)
    if embedder.config != without_reductions(embedder.config):
        raise ValueError(f"{given.checkpoint} has a reduction already; give the checkpoint it was fitted for")
    times = {"timestamp": timestamp_times(checkpoint, embedder, given.timestamp_level)} if given.timestamp_level else {}
    options = DataConfig(given.shards, given.weights, batch_size=CLIPS_AT_ONCE, crops=[CropConfig(given.seconds, 1)])
    check_ranges(options, "data.")
    data = ShardDataModule(options, embedder.sample_rate, seed=0)
    asked = {"checkpoint": sha256_of(find_checkpoint(given.checkpoint)), "timestamp_towers": given.timestamp_towers}
    gathered = Pass(embedder, data, list(numbers), given.out.with_suffix(".fit"), asked)
    white = whiten(checkpoint, embedder, gathered.run(given.clips), numbers, given.flatten, times)
    white["reduction"] = {"clips": given.clips, "flatten": given.flatten, "data": data.data_card()}
    if given.timestamp_level:
        white["reduction"]["timestamp_level"] = given.timestamp_level
    embedder_of(white, given.checkpoint)  # it loads as it was written
    save_checkpoint(white, given.out, given.checkpoint)
    gathered.file.unlink(missing_ok=True)
    for name, count in numbers.items():
        print(f"{name}: {count} numbers in place of {sum(getattr(embedder, f'{name}_parts')())}")
    return 0


if __name__ == "__main__":
    run_main(main)
