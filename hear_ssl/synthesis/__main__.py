"""The command line `hear-ssl synth KIND`: render a corpus of positive pairs, or voices for one."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from hear_ssl.errors import nearest, run_main
from hear_ssl.help_text import HelpText
from hear_ssl.synthesis import festival_voices, instruments, spoken_pairs, stroke_pairs
from hear_ssl.synthesis.command import Command, Parser

KINDS: dict[str, Command] = {
    "instruments": instruments.COMMAND,
    "strokes": stroke_pairs.COMMAND,
    "words": spoken_pairs.COMMAND,
    "voices": festival_voices.COMMAND,
}
DESCRIPTION = """\
Render a corpus to train on: clips in pairs that share one thing, such as the score or the word, and
differ in the rest. Train on it with data.shards=FOLDER data.positives=pairs. The corpus is written as
WebDataset shards (.tar) with an index.json. The same seed gives the same clips.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all kinds."""
    parser = Parser(
        prog="hear-ssl synth",
        description=DESCRIPTION,
        epilog="Options of a kind: hear-ssl synth KIND --help",
        formatter_class=HelpText,
    )
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    for name, command in KINDS.items():
        options = kinds.add_parser(
            name,
            help=command.summary,
            description=command.description,
            epilog=f"Example: {command.example}",
            formatter_class=HelpText,
        )
        command.add_options(options)
        options.set_defaults(run=command.run)
    return parser


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line and, as `run`, the function of its kind. Raises ValueError on a wrong command line."""
    if not arguments or (arguments[0] not in KINDS and not arguments[0].startswith("-")):
        given = f"unknown kind {arguments[0]!r}{nearest(arguments[0], list(KINDS))}" if arguments else "no kind of corpus given"
        raise ValueError(f"{given}; give one of {', '.join(KINDS)}, such as hear-ssl synth instruments --help")
    return make_parser().parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Render with the options of the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that unfinished files are removed
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    given.run(given)
    return 0


if __name__ == "__main__":
    run_main(main)
