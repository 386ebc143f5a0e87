"""Put the encoders of several runs side by side into one checkpoint, to evaluate and to package like any other.

python examples/reference/combine.py RUN [RUN ...] [--random] [--level [TIMES ...]] --out RUN/checkpoints/last.ckpt

Contrastive runs with different positives keep different things: pairs that share a score tell pitches apart, pairs that share a
sound tell sources apart. Encoders of both kinds beside each other keep both, and what training gives up altogether an untrained tower
of random weights has still.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that the script runs from any folder

import torch

from examples.reference.levels import bring_to_level
from hear_ssl import __version__
from hear_ssl.checkpoint import PREFIX, embedder_of, find_checkpoint, load_checkpoint, save_tensors
from hear_ssl.data.shards.shard_index import each_once
from hear_ssl.errors import run_main
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import VERSION_KEY

TOWERS = f"{PREFIX}encoder.towers."


def combine(runs: list[Path], random: bool = False, level: list[float] | None = None) -> dict[str, Any]:
    """Return a checkpoint whose encoder has the encoders of checkpoints or run folders as its towers, each of its own kind.

    The lower layers of an embedding are the first tower's: with `random` that is an untrained one of seed 0, before the runs. With
    `level` all layers have one level, the towers' last so many times it as the numbers in `level` say, if any, see `levels.py`;
    `tower_levels` keeps these numbers. Config and step are the first run's, `other_towers` holds the others', the data card lists the
    sources of all. Raises ValueError when there are fewer than two towers, or a run is damaged, given twice, has towers itself, or
    other features than the first, or tokens of another length.
    """
    if len(runs) + random < 2:
        raise ValueError("give two runs or more to put side by side, or one and --random")
    places = [find_checkpoint(run) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if sum(place.samefile(other) for other in places) > 1:
            raise ValueError(f"{run} is given twice; a tower beside its copy adds nothing")
    checkpoints = [load_checkpoint(run) for run in runs]
    embedders = [embedder_of(checkpoint, run) for checkpoint, run in zip(checkpoints, runs, strict=True)]
    first = embedders[0].config
    for run, config in zip(runs, (embedder.config for embedder in embedders), strict=True):
        if config.frontend != first.frontend:
            raise ValueError(f"{run} has another frontend than {runs[0]}; towers share their features")
        if config.beside:
            raise ValueError(f"{run} has towers itself; give the runs it was made of")
    if random:
        torch.manual_seed(0)
        embedders.insert(0, Embedder(first))
    states = [embedder.encoder.state_dict() for embedder in embedders]
    mapping = json.loads(json.dumps(checkpoints[0]["config"]))
    mapping["beside"] = to_mapping(EmbedderConfig(beside=tuple(embedder.config.encoder for embedder in embedders[1:])))["beside"]
    combined = {
        VERSION_KEY: __version__,
        "state_dict": {f"{TOWERS}{place}.{name}": tensor for place, state in enumerate(states) for name, tensor in state.items()},
        "config": mapping,
        "data_card": joined([checkpoint.get("data_card") or {} for checkpoint in checkpoints]),
        "global_step": checkpoints[0].get("global_step", 0),
        "random_tower": random,
        "other_towers": [{"steps": one.get("global_step", 0), "config": one["config"]} for one in checkpoints[1:]],
    }
    embedder = embedder_of(combined, runs[0])  # refuses towers that do not fit beside each other
    if level is not None:
        combined["levels"] = bring_to_level(embedder, level)
        combined["tower_levels"] = level or [1.0] * len(states)
        combined["state_dict"] = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in embedder.state_dict().items()}
    return combined


def joined(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data card of everything that any of the runs learned from, each source once."""
    sources = {json.dumps(source, sort_keys=True): source for card in cards for source in card.get("sources", [])}
    splits = sorted({split.strip() for card in cards for split in str(card.get("split", "")).split(",")})
    hours = sum(source["hours"] for source in sources.values())
    return {**cards[0], "hours": hours, "split": ", ".join(splits), "sources": each_once(sources.values())}


def check_new(out: Path) -> None:
    """Raise ValueError when a checkpoint to be written has another name than .ckpt, FileExistsError when it exists."""
    if out.suffix != ".ckpt":
        raise ValueError(f"--out {out} is not allowed; give a name that ends in .ckpt")
    if out.exists():
        raise FileExistsError(f"{out} exists: give another name, or remove it first")


def save_checkpoint(checkpoint: dict[str, Any], out: Path, run: Path) -> None:
    """Write a checkpoint made of that of a run, and beside it in a run folder of its own what the model card says of the run's machine."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(checkpoint, out)
    environment = find_checkpoint(run).parent.parent / "environment.json"
    copy = out.parent.parent / "environment.json"  # the model card names the revision
    if out.parent.name == "checkpoints" and environment.is_file() and not copy.exists():
        shutil.copyfile(environment, copy)


def main() -> int:
    """Combine as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder or checkpoint")
    parser.add_argument(
        "--random", action="store_true", help="with an untrained tower before the runs, whose lower layers the embedding has"
    )
    parser.add_argument(
        "--level",
        nargs="*",
        type=float,
        metavar="TIMES",
        help="bring layers to one level, which predictors that do not normalise their input need, each tower's last to so many times it",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.ckpt", help="checkpoint to write")
    given = parser.parse_args()
    check_new(given.out)
    checkpoint = combine(given.runs, given.random, given.level)
    save_checkpoint(checkpoint, given.out, given.runs[0])
    if given.level is not None:
        print(f"layers brought to their level by factors of {', '.join(f'{factor:.3g}' for factor in checkpoint['levels'])}")
    print(f"{given.out}: {len(given.runs) + given.random} encoders side by side")
    return 0


if __name__ == "__main__":
    run_main(main)
