"""hear-ssl pairs SHARDS ... --out FOLDER: pair recordings of the same source by their file names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hear_ssl.data.packing.pair_recordings import write_pairs
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.errors import run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_folder, user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Pair with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl pairs",
        formatter_class=HelpText,
        description="Pair recordings whose file names differ in a number alone (wolf-die-1.ogg, wolf-die-2.ogg), as positives for "
        "data.positives=pairs. Writes OUT/pairs, the clips with a partner, and OUT/others, all other clips.",
    )
    parser.add_argument("shards", nargs="+", type=user_path, metavar="SHARDS", help="folders packed by hear-ssl pack")
    parser.add_argument("--out", required=True, type=user_folder, metavar="FOLDER", help="new folder for pairs/ and others/")
    parser.add_argument(
        "--except",
        dest="excluded",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="sources whose numbered files are other sounds, such as spoken digits or pieces of music",
    )
    given = parser.parse_args(arguments)
    for name, index in write_pairs(ShardSet(given.shards), given.out, given.excluded).items():
        print(f"{index.clips} clips, {index.hours:.2f} hours in {given.out / name}")
    return 0


if __name__ == "__main__":
    run_main(main)
