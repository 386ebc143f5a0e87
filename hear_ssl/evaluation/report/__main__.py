"""hear-ssl report --scores OUT --module RUN --tasks TASKS --out report.html: write the report of a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import printable, run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl report", formatter_class=HelpText, description="Write one self-contained HTML page about a model."
    )
    parser.add_argument("--scores", required=True, type=user_path, metavar="FOLDER", help="folder that hear-ssl evaluate wrote with --out")
    parser.add_argument(
        "--module", required=True, type=user_path, metavar="NAME", help="the run folder, checkpoint or module that was scored"
    )
    parser.add_argument(
        "--weights",
        default="",
        type=user_path,
        metavar="FILE",
        help="the weights file that the scores are of (default: the one they were made with)",
    )
    parser.add_argument(
        "--python",
        default="",
        type=user_path,
        metavar="ENV/bin/python",
        help="the Python that the module was evaluated with, for --tasks",
    )
    parser.add_argument(
        "--tasks",
        type=user_path,
        metavar="FOLDER",
        help="folder of the tasks; adds a map of the embeddings, one clip over time and a confusion matrix",
    )
    parser.add_argument("--out", default="report.html", type=user_path, metavar="FILE", help="page to write (default: %(default)s)")
    given = parser.parse_args(arguments)
    from hear_ssl.evaluation.report.build import build  # loads torch

    tasks = Path(given.tasks) if given.tasks else None
    result = build(Path(given.scores), given.module, tasks, Path(given.out), given.weights, given.python)
    print(f"report       {given.out}")
    print(printable(result))
    return 0


if __name__ == "__main__":
    run_main(main)
