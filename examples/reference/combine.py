"""Concatenate the encoders of several runs in one checkpoint, to evaluate and to package like any other.

python -m examples.reference.combine RUN [RUN ...] [--random] [--level [SCALE ...]] [--timestamp-encoders N] --out RUN/checkpoints/last.ckpt

Contrastive training with different positives preserves different information: pairs that share a score lead to an encoder of pitch, pairs
that share a sound to an encoder of sources. Concatenated, they encode both, and an untrained encoder preserves information that training
discards. The result is the encoder concatenated.py:Concatenated, whose layers have names.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from examples.reference.levels import bring_to_level
from hear_ssl.checkpoint import PREFIX, embedder_of, find_checkpoint, load_checkpoint, save_tensors
from hear_ssl.data.shards.shard_index import each_once
from hear_ssl.errors import run_main
from hear_ssl.files import sha256_of
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig
from hear_ssl.model.encoders import build_encoder
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import VERSION_KEY
from hear_ssl.packaging.model_card import training_record
from hear_ssl.part_files import is_reference
from hear_ssl.version import __version__

ENCODERS = f"{PREFIX}encoder.encoders."
FILE = Path(__file__).resolve().with_name("concatenated.py")


def combine(
    runs: list[Path], random: bool = False, level: list[float] | None = None, timestamp_encoders: int | None = None
) -> dict[str, Any]:
    """Return a checkpoint whose encoder concatenates those of checkpoints or run folders.

    The lower layers of an embedding are those of the first encoder: with `random`, an untrained one with seed 0 before the runs. With
    `level`, all layers are rescaled to the same RMS, the last layers to multiples of it given by the numbers in `level`, see `levels.py`;
    `rms_scales` stores these numbers. Readouts of the last layer use the last layers of all encoders, for timestamps only those of the
    first `timestamp_encoders`. Config and step are those of the first run; `trainings` and the data card list those of all encoders.
    Raises ValueError when there are fewer than two encoders, or when a run is damaged, given twice, combined itself, or has other features
    or token lengths than the first.
    """
    count = len(runs) + random
    if count < 2:
        raise ValueError("give two runs or more to combine, or one and --random")
    if timestamp_encoders is not None and not 1 <= timestamp_encoders <= count:
        raise ValueError(f"--timestamp-encoders is {timestamp_encoders}; give 1 to {count}, the encoders there are")
    places = [find_checkpoint(run) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if sum(place.samefile(other) for other in places) > 1:
            raise ValueError(f"{run} is given twice; a copy of an encoder adds nothing")
    checkpoints = [load_checkpoint(run) for run in runs]
    embedders = [embedder_of(checkpoint, run) for checkpoint, run in zip(checkpoints, runs, strict=True)]
    check_combined(runs, embedders)
    if random:
        torch.manual_seed(0)
        embedders.insert(0, Embedder(embedders[0].config))
    combined = {
        VERSION_KEY: __version__,
        "state_dict": {
            f"{ENCODERS}{place}.{name}": tensor
            for place, embedder in enumerate(embedders)
            for name, tensor in embedder.encoder.state_dict().items()
        },
        "config": combined_config(checkpoints[0]["config"], [embedder.config for embedder in embedders], timestamp_encoders),
        "parts": {**(checkpoints[0].get("parts") or {}), "encoder.Concatenated": sha256_of(FILE)},
        "data_card": joined([checkpoint.get("data_card") or {} for checkpoint in checkpoints]),
        "global_step": checkpoints[0].get("global_step", 0),
        "trainings": trainings_of(checkpoints, random),
        "notes": [],
    }
    embedder = embedder_of(combined, runs[0])  # raises when encoders do not fit together
    if level is not None:
        combined["levels"] = bring_to_level(embedder, level)
        combined["rms_scales"] = level or [1.0] * count
        combined["notes"].append(f"RMS scales of the last layers: {' : '.join(f'{scale:g}' for scale in combined['rms_scales'])}")
        combined["state_dict"] = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in embedder.state_dict().items()}
    return combined


def check_combined(runs: list[Path], embedders: list[Embedder]) -> None:
    """Raise ValueError unless the embedders of runs have the same features and encoders of hear_ssl."""
    for run, embedder in zip(runs, embedders, strict=True):
        if embedder.config.frontend != embedders[0].config.frontend:
            raise ValueError(f"{run} has another frontend than {runs[0]}; combined encoders share their features")
        if is_reference(embedder.config.encoder.key):
            raise ValueError(f"{run} has the encoder {embedder.config.encoder.name}; give runs with encoders of hear_ssl")


def combined_config(first: dict[str, Any], configs: list[EmbedderConfig], timestamp_encoders: int | None) -> dict[str, Any]:
    """Return the config of the first run with the encoder that concatenates those of `configs`, and readouts of its layers."""
    config: dict[str, Any] = json.loads(json.dumps(first))
    encoders = [to_mapping(one)["encoder"] for one in configs]
    config["encoder"] = {f"{FILE}:Concatenated": {"encoders": json.dumps(encoders)}}
    for kind, count in (("scene", len(configs)), ("timestamp", timestamp_encoders or len(configs))):
        config[kind] = to_mapping(configs[0])[kind]
        for options in (options for element in config[kind] for options in element.values()):
            if options.get("layers") == "last" or (kind == "timestamp" and timestamp_encoders and options.get("layers") == "all"):
                lower = [f"first.{place}" for place in range(lower_layers(configs[0]))] if options["layers"] == "all" else []
                options["layers"] = ",".join([*lower, *(f"last.{place}" for place in range(count))])
    return config


def lower_layers(config: EmbedderConfig) -> int:
    """Return the number of layers of an encoder before its last."""
    return len(build_encoder(config.encoder, config.frontend.n_mels).layer_dims) - 1


def trainings_of(checkpoints: list[dict[str, Any]], random: bool) -> list[dict[str, Any]]:
    """Return the training of each encoder, in order, for the model card."""
    configs = [checkpoint["config"] for checkpoint in checkpoints]
    untrained = [training_record({}, configs[0], 0, 0)] if random else []
    steps = [int(checkpoint.get("global_step", 0)) for checkpoint in checkpoints]
    return untrained + [
        training_record(config, config, count, config["data"]["batch_size"]) for config, count in zip(configs, steps, strict=True)
    ]


def joined(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the union of the runs' data cards, with each source once."""
    sources = {json.dumps(source, sort_keys=True): source for card in cards for source in card.get("sources", [])}
    splits = sorted({split.strip() for card in cards for split in str(card.get("split", "")).split(",")})
    hours = sum(source["hours"] for source in sources.values())
    return {**cards[0], "hours": hours, "split": ", ".join(splits), "sources": each_once(sources.values())}


def check_new(out: Path) -> None:
    """Raise ValueError when the name of a new checkpoint does not end in .ckpt, FileExistsError when it exists."""
    if out.suffix != ".ckpt":
        raise ValueError(f"--out {out} is not allowed; give a name that ends in .ckpt")
    if out.exists():
        raise FileExistsError(f"{out} exists: give another name, or remove it first")


def save_checkpoint(checkpoint: dict[str, Any], out: Path, run: Path) -> None:
    """Write a checkpoint derived from a run, and copy the run's environment.json, which the model card uses, to its run folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(checkpoint, out)
    environment = find_checkpoint(run).parent.parent / "environment.json"
    copy = out.parent.parent / "environment.json"  # the model card names the revision
    if out.parent.name == "checkpoints" and environment.is_file() and not copy.exists():
        shutil.copyfile(environment, copy)


def main() -> int:
    """Combine with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder or checkpoint")
    parser.add_argument("--random", action="store_true", help="put an untrained encoder before the runs, whose lower layers are used")
    parser.add_argument(
        "--level",
        nargs="*",
        type=float,
        metavar="SCALE",
        help="rescale layers to the same RMS, for predictors that do not normalise their input; SCALE: a factor for each last layer",
    )
    parser.add_argument(
        "--timestamp-encoders", type=int, metavar="N", help="use only the last layers of the first N encoders in timestamps"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.ckpt", help="checkpoint to write")
    given = parser.parse_args()
    check_new(given.out)
    checkpoint = combine(given.runs, given.random, given.level, given.timestamp_encoders)
    save_checkpoint(checkpoint, given.out, given.runs[0])
    if given.level is not None:
        print(f"layers rescaled by factors of {', '.join(f'{factor:.3g}' for factor in checkpoint['levels'])}")
    print(f"{given.out}: {len(given.runs) + given.random} encoders concatenated")
    return 0


if __name__ == "__main__":
    run_main(main)
