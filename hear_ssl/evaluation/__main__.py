"""Score a HEAR module, a run or a checkpoint on HEAR-format tasks, and its baselines.

hear-ssl evaluate --module RUN --tasks TASKS --out OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import run_main
from hear_ssl.evaluation import BASELINES, GRIDS
from hear_ssl.evaluation.verbs import Asked, check_baselines, scored
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate with the options of the command line and return the exit status: 1 when a task could not be scored."""
    given = parse_arguments(arguments)
    from hear_ssl.evaluation.run import tables  # torch loads only once the command line is right

    asked = Asked(given.grid, given.seeds, given.weights, given.compare, given.only, given.device, given.baselines, given.python)
    record, names = scored(given.module, Path(given.tasks), Path(given.out), asked)
    print(tables(record, names))
    print(f"scores       {Path(given.out) / 'scores.json'}")
    return 1 if any(record["faults"].values()) else 0


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl evaluate", formatter_class=HelpText, description="Score an embedding model on HEAR-format tasks."
    )
    add_model_arguments(parser)
    parser.add_argument("--tasks", required=True, type=user_path, metavar="FOLDER", help="folder of tasks in HEAR format, or one task")
    parser.add_argument("--out", required=True, type=user_path, metavar="FOLDER", help="folder for scores.json and kept embeddings")
    parser.add_argument(
        "--grid",
        default="official",
        choices=GRIDS,
        help="official: the benchmark's own search; fast: one small network; few-shot: scene tasks in seconds, by logistic"
        " regression on 8 clips a label, nearest neighbours and ridge regression (default: %(default)s)",
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only tasks whose name contains this; repeatable")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        type=user_path,
        metavar="NAME",
        help="another run, checkpoint or module in the table; repeatable",
    )
    parser.add_argument(
        "--baselines",
        type=baseline_names,
        default=",".join(BASELINES),
        metavar="NAMES",
        help="baselines to score: logmel (log-mel statistics), untrained (the same architecture with random weights),"
        " both with a comma, or none; also a module with an environment of hear-ssl foreign, such as hearbaseline.naive; their"
        " scores are kept for later evaluations (default: %(default)s)",
    )
    seeds = "predictors trained per task; above 1 the table shows mean and spread (default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help=seeds)
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="where models compute: auto, cpu, cuda, cuda:1 or mps; auto uses a GPU when there is one, and the CPU for"
        " a model that fails there (default: %(default)s)",
    )
    arguments = parser.parse_args(given)
    if arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}; it must be at least 1")
    return arguments


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the model."""
    parser.add_argument(
        "--module", required=True, type=user_path, metavar="NAME", help="a run folder, a checkpoint, or an importable HEAR module"
    )
    parser.add_argument("--weights", default="", type=user_path, metavar="FILE", help="weights file given to load_model() of a module")
    parser.add_argument(
        "--python",
        default="",
        type=user_path,
        metavar="ENV/bin/python",
        help="the Python of the environment that the module is installed in: it embeds there, in a process of its own, with any"
        " Python from 3.7 on and any torch or TensorFlow; see hear-ssl foreign",
    )


def baseline_names(text: str) -> list[str]:
    """Return the baselines given by --baselines. Raises ArgumentTypeError for an unknown name."""
    given = [] if text == "none" else text.split(",")
    try:
        check_baselines(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return given


if __name__ == "__main__":
    run_main(main)
