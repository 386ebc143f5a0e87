"""hear-ssl tasks [fetch NAME ... --out TASKS]: list the 19 official HEAR 2021 tasks, or download some of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import run_main
from hear_ssl.evaluation.tasks.official_tasks import RECORD, listing
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """List or download tasks with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl tasks", formatter_class=HelpText, description="List the 19 official HEAR 2021 tasks, or download some of them."
    )
    commands = parser.add_subparsers(dest="command")
    listed = "list the tasks with size, licence and source (the default)"
    commands.add_parser("list", formatter_class=HelpText, help=listed, description="List the tasks with size, licence and source.")
    fetched = "download, check and unpack tasks; the same command resumes"
    fetch = commands.add_parser(
        "fetch", formatter_class=HelpText, help=fetched, description="Download, check and unpack tasks. The same command resumes."
    )
    fetch.add_argument("names", nargs="+", metavar="NAME", help="tasks as listed, or all")
    fetch.add_argument(
        "--out",
        required=True,
        type=user_path,
        metavar="FOLDER",
        help="folder for the unpacked tasks, the --tasks of hear-ssl evaluate",
    )
    fetch.add_argument(
        "--from",
        default="",
        dest="base",
        metavar="URL_BASE",
        help="a mirror: http(s) address of a folder with the archives under their published names and, for checksums, "
        f"record.json, a copy of the record's own JSON (default: {RECORD})",
    )
    given = parser.parse_args(arguments)
    if given.command == "fetch":
        from hear_ssl.evaluation.tasks.archive import fetch_tasks  # numpy and torch load only when something is fetched

        return fetch_tasks(given.names, Path(given.out), given.base)
    print(listing())
    return 0


if __name__ == "__main__":
    run_main(main)
