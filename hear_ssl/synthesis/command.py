"""The command line shared by all kinds of corpora: `hear-ssl synth KIND`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from hear_ssl.machine import usable_cores, user_folder


@dataclass(frozen=True)
class Command:
    """One kind of corpus: a line for the list of kinds, the text of its --help, its options, and the function that runs it."""

    summary: str
    description: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError on a wrong command line, so that the error is one line."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message and where the options are listed."""
        raise ValueError(f"{message} (options: {self.prog} --help)")


def add_output_options(parser: argparse.ArgumentParser, seed: int) -> None:
    """Add --out, --seed and --workers, which every kind has."""
    parser.add_argument("--out", type=user_folder, required=True, metavar="FOLDER", help="new folder for what is rendered")
    parser.add_argument("--seed", type=int, default=seed, metavar="S", help="the same seed gives the same clips (default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=int,
        default=usable_cores(),
        metavar="N",
        help="processes, 1 to 1024 (default: one for each core this process may use, %(default)s)",
    )


def add_clips_option(parser: argparse.ArgumentParser, clips: int) -> None:
    """Add --clips with its default."""
    parser.add_argument(
        "--clips", type=int, default=clips, metavar="N", help="clips in all, an even number: two for each pair (default: %(default)s)"
    )
