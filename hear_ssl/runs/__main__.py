"""hear-ssl runs: list runs, compare them, find the best, export them as CSV.

hear-ssl runs [FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import printable, run_main
from hear_ssl.files import check_writable
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_folder
from hear_ssl.runs.listing import best_run, best_weights, export, list_lines
from hear_ssl.runs.run_folder import Run, find_runs

DEFAULT = Path("runs")
COMMANDS = ("list", "compare", "best", "export")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command, by default the list of a folder's runs."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in (*COMMANDS, "-h", "--help"):
        given = ["list", *given]
    parsed = parser().parse_args(given)
    runs = find_runs(parsed.folders)
    for problem in (problem for run in runs for problem in run.problems):
        print(printable(problem), file=sys.stderr)
    if parsed.command == "list":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(list_lines(runs, width=width)))
    elif parsed.command == "compare":
        compare(runs, parsed.out, parsed.scores)
    elif parsed.command == "best":
        print_best(runs, parsed.by, parsed.lowest)
    else:
        check_writable(parsed.csv)
        export(runs, parsed.csv)
        print(f"{len(runs)} runs in {parsed.csv}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl runs",
        formatter_class=HelpText,
        description="List the runs in FOLDER (default: runs): state, steps, rate, probe scores, the config keys in which they differ."
        " running: a process trains it; done, stopped, failed: how it ended; stale: it ended without recording it, such as by SIGKILL.",
        epilog="hear-ssl runs [FOLDER] is short for hear-ssl runs list [FOLDER]. Nothing is locked or changed: runs may be training.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, folders: str, first: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name, formatter_class=HelpText, help=text, description=f"{text[0].upper()}{text[1:]}.")
        many = folders == "RUN"
        if first:
            added.add_argument(first, type=user_folder, metavar=first.upper(), help="file to write")
        added.add_argument(
            "folders",
            nargs="+" if many else "*",
            type=user_folder,
            default=None if many else [DEFAULT],
            metavar=folders,
            help="run folders, or folders of runs" + ("" if many else f" (default: {DEFAULT})"),
        )
        return added

    command("list", "list runs", "FOLDER")
    compared = command("compare", "compare runs: print config differences and scores, and write one HTML page with their curves", "RUN")
    compared.add_argument(
        "--out", type=user_folder, default=Path("compare.html"), metavar="FILE", help="page to write (default: %(default)s)"
    )
    compared.add_argument(
        "--scores",
        action="append",
        type=user_folder,
        default=[],
        metavar="FOLDER",
        help="folder that evaluate wrote with --out: adds the scores of these runs; repeatable",
    )
    best = command("best", "print the checkpoint of the best run, for --module, --checkpoint and --resume of other commands", "FOLDER")
    best.add_argument("--by", default="probe", metavar="COLUMN", help="column of metrics.csv to compare (default: %(default)s)")
    best.add_argument("--lowest", action="store_true", help="the lowest value is the best, as for a loss")
    command("export", "write a CSV with a row for each run", "FOLDER", first="csv")
    return parser


def compare(runs: list[Run], out: Path, scores: list[Path]) -> None:
    """Print a comparison of runs and write its page."""
    from hear_ssl.runs.compare import compare_lines, grouped, read_records
    from hear_ssl.runs.compare_page import write_page  # loads matplotlib

    check_writable(out)
    groups, records = grouped(runs), read_records(scores)
    print("\n".join(map(printable, compare_lines(groups, records))))
    write_page(groups, out, records)
    print(f"\npage         {out}")


def print_best(runs: list[Run], column: str, lowest: bool) -> None:
    """Print the checkpoint of the best run on stdout, and its value on stderr."""
    run, step, value = best_run(runs, column, lowest)
    without = sum(other.best(column) is None for other in runs)
    note = f" ({without} without {column} left out)" if without else ""
    print(printable(f"{column} {value:.6g} at step {step}, the best of {len(runs) - without} runs{note}"), file=sys.stderr)
    print(best_weights(run, step, column))


if __name__ == "__main__":
    run_main(main)
