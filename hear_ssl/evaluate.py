"""Score a HEAR module, a run or a checkpoint on HEAR-format tasks, beside its baselines.

python -m hear_ssl.evaluate --module RUN --tasks TASKS --out OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hear_ssl.errors import run_main
from hear_ssl.machine import usable_cores, user_path

BASELINES = {"logmel": "log-mel", "untrained": "untrained"}  # by their names in the table


def main() -> int:
    """Evaluate as the command line says; 1 when a task could not be scored."""
    arguments = parse_arguments()
    import torch

    from hear_ssl.evaluation.baseline_scores import cache_folder
    from hear_ssl.evaluation.device import keep_float32
    from hear_ssl.evaluation.run import evaluate, models_to_compare, tables
    from hear_ssl.evaluation.scores_file import asked_for  # torch loads only once the command line is right
    from hear_ssl.evaluation.tasks.task_format import find_tasks

    folders = find_tasks(Path(arguments.tasks), arguments.only)
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    keep_float32()
    models = models_to_compare(arguments.module, arguments.weights, arguments.compare, arguments.device, arguments.baselines)
    record = evaluate(models, folders, Path(arguments.out), arguments.grid, arguments.seeds, kept=cache_folder())
    names = [model.name for model in models]
    record = asked_for(record, [folder.name for folder in folders], names)
    print(tables(record, names))
    print(f"scores       {Path(arguments.out) / 'scores.json'}")
    return 1 if any(record["faults"].values()) else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m hear_ssl.evaluate", description="Score an embedding model on HEAR-format tasks.")
    parser.add_argument(
        "--module", required=True, type=user_path, metavar="NAME", help="a run folder, a checkpoint, or an importable HEAR module"
    )
    parser.add_argument("--weights", default="", type=user_path, metavar="FILE", help="weights file given to load_model() of a module")
    parser.add_argument("--tasks", required=True, type=user_path, metavar="DIR", help="folder of tasks in HEAR format, or one task")
    parser.add_argument("--out", required=True, type=user_path, metavar="DIR", help="folder for scores.json and kept embeddings")
    parser.add_argument(
        "--grid",
        default="official",
        choices=("official", "fast", "few-shot"),
        help="official: the benchmark's own search; fast: one small network; few-shot: scene tasks in seconds, by logistic"
        " regression on 8 clips a label, nearest neighbours and ridge regression (default %(default)s)",
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only tasks whose name contains this; may be given several times")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        type=user_path,
        metavar="NAME",
        help="another run, checkpoint or module in the table; may be given again",
    )
    parser.add_argument(
        "--baselines",
        type=baseline_names,
        default="logmel,untrained",
        metavar="NAMES",
        help="what stands beside the model: logmel (log-mel statistics), untrained (the same architecture with random weights),"
        " both with a comma, or none; their scores are kept for later evaluations (default %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="predictors trained per task; above 1 the table shows mean and spread"
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="where models compute: auto, cpu, cuda, cuda:1 or mps; auto uses a GPU when there is one, and the CPU for"
        " a model that fails there (default %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}; it must be at least 1")
    return arguments


def baseline_names(text: str) -> list[str]:
    """Return the baselines that --baselines names, as they are called in the table. Raises ArgumentTypeError for any other name."""
    given = [] if text == "none" else text.split(",")
    wrong = next((name for name in given if name not in BASELINES), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"{wrong!r} is no baseline; give none, {', '.join(BASELINES)}, or several with a comma")
    return [BASELINES[name] for name in given]


if __name__ == "__main__":
    run_main(main)
