"""hear-ssl merge FOLDER, also python -m hear_ssl.data.merge: make one folder of shards of the parts that pack --part wrote."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl merge",
        formatter_class=HelpText,
        description="Make one folder of shards of the parts that `pack --part` wrote into it, without the clips that several contain. "
        "Stop it at any time; the same command starts again.",
        epilog="Example: hear-ssl merge shards",
    )
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="folder that was given to pack with --out")
    folder = Path(parser.parse_args(arguments).folder)
    from hear_ssl.data.packing.merge import merge

    index = merge(folder)
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(index.rejected.items())) or "none"
    print(f"merged {index.size()} into {folder}; rejected: {rejected}")
    print(f"the parts are no longer needed: {folder}/part-* can be removed")
    return 0


if __name__ == "__main__":
    run_main(main)
