"""Reduce the embeddings of a checkpoint by PCA: fit a linear map to fewer, uncorrelated dimensions and add it to the checkpoint.

python -m examples.reference.reduce CHECKPOINT --shards FOLDER [FOLDER ...] [--scene 1024] [--timestamp 768] --out RUN/checkpoints/last.ckpt

The layers of concatenated encoders are correlated, and most of their variance lies in few directions. A predictor that does not
normalise its input learns those first. The map keeps the first principal components over clips of the training corpus and makes their
variances more equal by `--flatten` (full whitening: Jegou and Chum, 2012, https://hal.inria.fr/hal-00722622). It uses no labels and
leaves the encoder unchanged. The checkpoint gains the readout `linear`, which `hear_ssl.packaging.linear_map` fits. A fit that was
stopped resumes by the same command, from a file next to --out. `hear-ssl package --linear pca:DIMS` fits a map at export, without
`--flatten` and `--timestamp-level`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from examples.reference.combine import check_new, save_checkpoint
from examples.reference.levels import check_levels
from hear_ssl.checkpoint import EMA, PREFIX, embedder_of, find_checkpoint, load_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.errors import run_main
from hear_ssl.files import sha256_of
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import without_maps
from hear_ssl.model.options import to_mapping
from hear_ssl.model.readouts import Contexts, Readout, Tokens
from hear_ssl.packaging.linear_map import LinearMap
from hear_ssl.training.fit_linear import Pass, clips_to_fit_on, fit_maps


def timestamp_scale(checkpoint: dict[str, Any], embedder: Embedder, levels: list[float]) -> Tensor:
    """Return a factor for each dimension of a timestamp embedding that gives the encoders' last layers the RMS scales `levels`.

    The present scales are those set by `combine.py --level`, or 1. Raises ValueError unless `levels` has one positive number for each
    last layer in the timestamp embedding.
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


def with_maps_of(checkpoint: dict[str, Any], mapped: Embedder, record: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with the linear maps of `mapped` and the record of their fit."""
    state = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in mapped.state_dict().items()}
    others = {name: tensor for name, tensor in checkpoint["state_dict"].items() if not name.startswith((PREFIX, EMA))}
    config = {**checkpoint["config"], **to_mapping(mapped.config)}
    return {**checkpoint, "state_dict": {**others, **state}, "config": config, "fitted": record}


def main() -> int:
    """Fit with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="run folder or checkpoint")
    parser.add_argument(
        "--shards", nargs="+", required=True, metavar="FOLDER", help="packed clips to fit on, such as data.shards of a training"
    )
    parser.add_argument("--weights", nargs="+", type=float, default=[], metavar="SHARE", help="share of the clips for each folder")
    parser.add_argument("--clips", type=int, default=4096, help="number of clips to fit on; use more than there are dimensions")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip")
    parser.add_argument("--scene", type=int, default=0, metavar="DIMS", help="dimensions of a scene embedding; 0 leaves it unchanged")
    parser.add_argument("--timestamp", type=int, default=0, metavar="DIMS", help="the same for timestamp embeddings")
    parser.add_argument(
        "--timestamp-level",
        nargs="+",
        type=float,
        default=[],
        metavar="SCALE",
        help="RMS scales of the encoders' last layers in timestamp embeddings (default: as in scene embeddings)",
    )
    parser.add_argument(
        "--flatten", type=float, default=0.25, metavar="SHARE", help="how far variances are made equal: 0 not at all, 1 fully (whitening)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.ckpt", help="checkpoint to write")
    given = parser.parse_args()
    numbers = {name: count for name, count in (("scene", given.scene), ("timestamp", given.timestamp)) if count}
    if min(numbers.values(), default=0) < 1 or given.clips < 2 or not 0.0 <= given.flatten <= 1.0:
        raise ValueError("give --scene or --timestamp of 1 or more, --clips of 2 or more, and --flatten from 0 to 1")
    if given.timestamp_level and not given.timestamp:
        raise ValueError("--timestamp-level changes nothing without --timestamp; give it the dimensions of a timestamp, or leave both out")
    check_new(given.out)
    checkpoint = load_checkpoint(given.checkpoint)
    embedder = embedder_of(checkpoint, given.checkpoint)
    if embedder.config != without_maps(embedder.config):
        raise ValueError(f"{given.checkpoint} has a linear map already; give the checkpoint it was fitted for")
    scale = timestamp_scale(checkpoint, embedder, given.timestamp_level) if given.timestamp_level else None
    data = clips_to_fit_on(DataConfig(given.shards, given.weights), embedder.sample_rate, given.seconds)
    asked = {"checkpoint": sha256_of(find_checkpoint(given.checkpoint))}
    gathered = Pass(embedder, data, list(numbers), given.out.with_suffix(".fit"), asked)
    maps = {name: LinearMap("pca", dims, flatten=given.flatten, even=False) for name, dims in numbers.items()}
    reduced = with_maps_of(checkpoint, *fit_maps(embedder, maps, gathered, given.clips, {} if scale is None else {"timestamp": scale}))
    if given.timestamp_level:
        levels = " : ".join(f"{level:g}" for level in given.timestamp_level)
        reduced["notes"] = [*reduced.get("notes", []), f"RMS scales in timestamps: {levels}"]
    embedder_of(reduced, given.checkpoint)  # raises unless it loads
    save_checkpoint(reduced, given.out, given.checkpoint)
    gathered.file.unlink(missing_ok=True)
    for name, count in numbers.items():
        print(f"{name}: {getattr(embedder, f'{name}_embedding_size')} dimensions reduced to {count}")
    return 0


if __name__ == "__main__":
    run_main(main)
