"""The command line of training: read and check it, then train. torch and Lightning are imported only after the check."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, replace
from pathlib import Path
from typing import Any

from hear_ssl.data.stream.forkserver import start_early
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path
from hear_ssl.training.config import Config, plain_config, whole_config
from hear_ssl.training.config_sources import Source, read_sources, run_sources
from hear_ssl.training.places import whole_paths
from hear_ssl.training.recipes import recipe_names, recipe_path
from hear_ssl.training.show_config import default_text, meaning, type_name
from hear_ssl.training.speed import Machine, choose, keep_memory
from hear_ssl.training.wandb_mode import with_wandb_mode


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, and return the exit status."""
    parser = command_parser()
    given = parser.parse_args(arguments)
    if given.help:
        sources = given_sources(given) if given.config or given.resume else read_sources(None, given.overrides)
        parser.epilog = key_help(sources, bool(given.resume))
        parser.print_help()
        return 0
    if bool(given.config) == bool(given.resume):
        raise ValueError("give either --config RECIPE to start a run or --resume RUN to resume one; see hear-ssl fit --help")
    if given.sweep is not None:
        if given.resume:
            raise ValueError("--sweep resumes by the command that started it, with --config; leave --resume out")
        from hear_ssl.training.sweep import command  # loads torch

        return command(given.config, given.overrides, given.sweep, given.at_once, given.slurm)
    if given.at_once is not None or given.slurm is not None:
        raise ValueError("--at-once and --slurm are for a sweep; give --sweep KEY=VALUE,VALUE too")
    sources = given_sources(given)
    config = ready_config(sources, given.overrides, bool(given.resume))
    run, file = resumed_run(given.resume) if given.resume else (Path(config.run), None)
    from hear_ssl.training.trainer import fit  # Lightning loads only once the command line is right

    return fit(replace(config, run=str(run)) if given.resume else config, resume=bool(given.resume), resumed_file=file)


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl fit",
        description="Train an audio encoder from shards and write a run folder with checkpoints, metrics.csv and the resolved config.",
        formatter_class=HelpText,
        add_help=False,
    )
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help; with --config also the keys of that config's own classes"
    )
    parser.add_argument(
        "--config",
        type=user_path,
        metavar="RECIPE",
        help="a recipe by its name, such as simclr, or a YAML file with the keys that differ from the defaults; recipes: "
        + ", ".join(recipe_names()),
    )
    parser.add_argument(
        "--resume",
        type=user_path,
        metavar="RUN",
        help="resume a stopped run: its folder, or one of its checkpoints; its own config is used",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a config key, such as trainer.steps=500 (all keys below)")
    parser.add_argument(
        "--sweep",
        nargs="+",
        metavar="KEY=VALUES",
        help="train every combination of values, such as --sweep objective.nt_xent.temperature=0.05,0.1 seed=0,1, in the folder run=FOLDER"
        " or OUTPUT/NAME-sweep, and compare the runs; other key=value arguments come before it or have one value; commas within brackets"
        " or quotes belong to a value; the same command resumes what was stopped or failed",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="runs of a sweep that train next to each other, each on its share of cores and GPUs (default: 1)",
    )
    parser.add_argument(
        "--slurm",
        nargs="*",
        metavar="KEY=VALUE",
        help="train the runs of a sweep as a SLURM job array, with parameters of submitit such as timeout_min=600 gpus_per_node=1"
        " slurm_partition=gpu; needs: pip install submitit",
    )
    return parser


def ready_config(sources: Sequence[Source], overrides: Iterable[str], resuming: bool) -> Config:
    """Prepare this process for a config and return the config with absolute paths. overrides: keys given on the command line.

    Raises what `whole_config` raises, and ValueError when WANDB_MODE is not a valid mode.
    """
    plain = plain_config(sources)
    if choose(plain, Machine("cpu", 1, "")).allocator:
        keep_memory()  # before torch loads
    if plain.data.workers:
        start_early()  # it imports torch while this process does
    return with_wandb_mode(whole_paths(whole_config(sources, resuming)), list(overrides))


def resumed_run(given: str) -> tuple[Path, Path | None]:
    """Return the run folder given by --resume, and the checkpoint file if one was given.

    Raises ValueError when a file is not in a run folder.
    """
    path = Path(given)
    if not path.is_file():
        return path, None
    run = next((folder for folder in path.absolute().parents[:3] if (folder / "config.yaml").is_file()), None)
    if run is None:
        raise ValueError(f"{path} lies in no run folder; give RUN/checkpoints/step-N.ckpt, or the run's folder for its last checkpoint")
    return run, path


def given_sources(arguments: argparse.Namespace) -> list[Source]:
    """Return the keys of the config or run given on the command line, and of its key=value arguments."""
    if arguments.resume:
        return run_sources(resumed_run(arguments.resume)[0], arguments.overrides)
    return read_sources(recipe_path(arguments.config) if arguments.config else None, arguments.overrides)


def key_help(sources: list[Source], resuming: bool = False) -> str:
    """Return the table of all config keys: name, type, default, unit and meaning, including keys of a user's classes in `sources`."""
    from hear_ssl.readout_lists import ReadoutLists, readout_keys  # loads torch
    from hear_ssl.training.config_parts import Selection, config_keys

    selection, readouts = Selection(resuming), ReadoutLists(resuming)
    for source in sources:
        selection.add(source)
        readouts.add(source)
    lines = ["config keys (name: type = default, meaning [unit, range]):", *described(config_keys(selection.parts()))]
    lines += ["readouts, elements of the lists scene and timestamp (scene.0.how=mean sets an option of the first):"]
    return "\n".join([*lines, *described(readout_keys(readouts.parts()))])


def described(keys: Mapping[str, tuple[Any, Field[Any]]]) -> Iterator[str]:
    """Yield two lines for each key: its name, type and default, and what it means with its unit and range."""
    for key, (kind, item) in keys.items():
        yield f"  {key}: {type_name(kind)} = {default_text(item)}".rstrip(" =") + f"\n      {meaning(item)}"
