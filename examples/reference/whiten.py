"""Fit a linear map of embeddings onto fewer dimensions, none of them correlated with another, and write it into a checkpoint.

python -m examples.reference.whiten CHECKPOINT --shards FOLDER [FOLDER ...] [--scene 1024] [--timestamp 768] --out RUN/checkpoints/last.ckpt

The layers of concatenated encoders are correlated, and most of their variance lies in few directions, which a predictor that does not
normalise its input learns first. The map keeps principal components over clips of the training corpus, with their variances part of the
way to equal (Jegou and Chum, 2012, whiten them fully: https://hal.inria.fr/hal-00722622). No label is read, and no layer changes. The
checkpoint gains the readout `linear`. A fit that was stopped resumes by the same command, from a file next to --out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from examples.reference.combine import check_new, save_checkpoint
from examples.reference.levels import check_levels
from examples.reference.moments import CLIPS_AT_ONCE, Moments, Pass
from hear_ssl.checkpoint import EMA, PREFIX, embedder_of, find_checkpoint, load_checkpoint
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.errors import run_main
from hear_ssl.files import sha256_of
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import KINDS, readout, without_maps
from hear_ssl.model.options import check_ranges, to_mapping
from hear_ssl.model.readouts import Contexts, Readout, Tokens
from hear_ssl.training.datamodule import ShardDataModule

ROUNDING = 1e-7  # a component of less than this share of the variance is none


def fit_linear(moments: Moments, dims: int, flatten: float, scale: Tensor | None = None) -> nn.Linear:
    """Return the map onto the `dims` largest principal components.

    Each dimension counts so many times as much as `scale` has, where given. A component's variance v becomes v ** (1 - flatten), up to
    one factor that leaves the sum of all variances as it is. Raises ValueError when there are not so many components.
    """
    scale = torch.ones(len(moments.mean())).double() if scale is None else scale.double()
    covariance = moments.covariance() * torch.outer(scale, scale)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    found = int((values > ROUNDING * values.sum()).sum())
    if found < dims:
        raise ValueError(f"{dims} dimensions are asked for and {found} components were found; ask for fewer, or fit on more clips")
    values, vectors = values[-dims:], vectors[:, -dims:]
    gains = values ** (-flatten / 2.0)
    gains *= torch.sqrt(covariance.trace() / (values * gains.square()).sum())
    weight = (vectors * gains).T * scale
    fitted = nn.Linear(len(scale), dims)
    with torch.no_grad():
        fitted.weight.copy_(weight)
        fitted.bias.copy_(-weight @ moments.mean())
    return fitted


def timestamp_scale(checkpoint: dict[str, Any], embedder: Embedder, levels: list[float]) -> Tensor:
    """Return how many times as much each dimension of a timestamp counts so that the encoders' last layers have these RMS scales.

    The checkpoint's own are those that `combine.py --level` gave them, 1 where it gave none. Raises ValueError unless there is one
    positive number for each last layer that timestamps have.
    """
    names = list(embedder.encoder.layer_names) or [str(place) for place in range(len(embedder.encoder.layer_dims))]
    last = [name for name in names if name.startswith("last.")] or names[-1:]
    own = checkpoint.get("rms_scales") or [1.0] * len(last)
    readouts = [one for one in embedder.get_submodule("timestamp_readout.readouts").children() if isinstance(one, Readout)]
    layers = [one.layers for one in readouts if isinstance(one, (Tokens, Contexts))]
    if any(chosen.averaged for chosen in layers):
        raise ValueError("--timestamp-level needs layers of their own; layers: mean adds them up")
    check_levels("--timestamp-level", levels, len({names[place] for chosen in layers for place in chosen.places} & set(last)))
    times = {name: level / before for name, level, before in zip(last, levels, own, strict=False)}
    scales = []
    for one in readouts:
        row = torch.ones(one.width)
        if isinstance(one, (Tokens, Contexts)):
            row = torch.cat(
                [torch.full((dim,), times.get(names[place], 1.0)) for place, dim in zip(one.layers.places, one.layers.dims, strict=True)]
            )
        scales.append(row.repeat(one.width // len(row)))
    return torch.cat(scales)


def whiten(
    checkpoint: dict[str, Any], embedder: Embedder, moments: dict[str, Moments], dims: dict[str, int], flatten: float, scale: Tensor | None
) -> dict[str, Any]:
    """Return a checkpoint with linear maps of scenes and timestamps onto so many `dims`; its embedder has none yet.

    Where given, each dimension of timestamps counts as `scale` has it, see `fit_linear`.
    """
    lists = {kind: (*getattr(embedder.config, kind), readout("linear", dims=dims[kind])) for kind in moments}
    mapped = Embedder(replace(embedder.config, **lists))  # type: ignore[arg-type]
    mapped.encoder.load_state_dict(embedder.encoder.state_dict())
    for kind in KINDS:
        before, after = embedder.get_submodule(f"{kind}_readout"), mapped.get_submodule(f"{kind}_readout")
        if kind not in moments:
            after.load_state_dict(before.state_dict())
            continue
        after.get_submodule("readouts.0.before").load_state_dict(before.state_dict())
        fitted = fit_linear(moments[kind], dims[kind], flatten, scale if kind == "timestamp" else None)
        after.get_submodule("readouts.0.map").load_state_dict(fitted.state_dict())
    state = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in mapped.state_dict().items()}
    others = {name: tensor for name, tensor in checkpoint["state_dict"].items() if not name.startswith((PREFIX, EMA))}
    return {**checkpoint, "state_dict": {**others, **state}, "config": {**checkpoint["config"], **to_mapping(mapped.config)}}


def main() -> int:
    """Fit with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="run folder or checkpoint")
    parser.add_argument("--shards", nargs="+", required=True, metavar="FOLDER", help="packed clips to fit on, as data.shards of a training")
    parser.add_argument("--weights", nargs="+", type=float, default=[], metavar="SHARE", help="share of the clips for each folder")
    parser.add_argument("--clips", type=int, default=4096, help="how many clips to fit on; more steady with more than there are numbers")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip")
    parser.add_argument("--scene", type=int, default=0, metavar="NUMBERS", help="numbers of a scene embedding; 0 leaves scenes as they are")
    parser.add_argument("--timestamp", type=int, default=0, metavar="NUMBERS", help="the same of a timestamp embedding")
    parser.add_argument(
        "--timestamp-level",
        nargs="+",
        type=float,
        default=[],
        metavar="SCALE",
        help="RMS scales of the encoders' last layers in timestamps; without, as in scenes",
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
    embedder = embedder_of(checkpoint, given.checkpoint)
    if embedder.config != without_maps(embedder.config):
        raise ValueError(f"{given.checkpoint} has a linear map already; give the checkpoint it was fitted for")
    scale = timestamp_scale(checkpoint, embedder, given.timestamp_level) if given.timestamp_level else None
    options = DataConfig(given.shards, given.weights, batch_size=CLIPS_AT_ONCE, crops=[CropConfig(given.seconds, 1)])
    check_ranges(options, "data.")
    data = ShardDataModule(options, embedder.sample_rate, seed=0)
    asked = {"checkpoint": sha256_of(find_checkpoint(given.checkpoint))}
    gathered = Pass(embedder, data, list(numbers), given.out.with_suffix(".fit"), asked)
    white = whiten(checkpoint, embedder, gathered.run(given.clips), numbers, given.flatten, scale)
    white["fitted"] = {"clips": given.clips, "flatten": given.flatten, "data": data.data_card()}
    if given.timestamp_level:
        levels = " : ".join(f"{level:g}" for level in given.timestamp_level)
        white["notes"] = [*white.get("notes", []), f"RMS scales in timestamps: {levels}"]
    embedder_of(white, given.checkpoint)  # it loads as it was written
    save_checkpoint(white, given.out, given.checkpoint)
    gathered.file.unlink(missing_ok=True)
    for name, count in numbers.items():
        print(f"{name}: {count} dimensions in place of {getattr(embedder, f'{name}_embedding_size')}")
    return 0


if __name__ == "__main__":
    run_main(main)
