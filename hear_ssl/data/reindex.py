"""hear-ssl reindex FOLDER --license NAME: make index.json for WebDataset shards that another tool wrote."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.shard_index import INDEX_NAME
from hear_ssl.errors import run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Index with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl reindex", formatter_class=HelpText, description="Make index.json for WebDataset shards that another tool wrote."
    )
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="folder of .tar shards")
    parser.add_argument(
        "--license", default="unknown", metavar="NAME", help="licence of the audio (SPDX, such as CC-BY-4.0); the export asks for it"
    )
    parser.add_argument("--source", default="", metavar="NAME", help="what the data card calls the audio (default: the folder's name)")
    parser.add_argument("--split", default="train", metavar="NAME", help="split of the audio (default: %(default)s)")
    parser.add_argument(
        "--not-test",
        default="",
        metavar="SOURCE",
        help="source that is not test data though a folder, an archive or a list has such a name; noted in the data card",
    )
    parser.add_argument("--audio", default="", metavar="SUFFIX", help="suffix of the audio member where clips have several: mic1.flac")
    given = parser.parse_args(arguments)
    folder = Path(given.folder)
    stated = given.not_test == (given.source or folder.resolve().name)
    if given.not_test and not stated:
        raise ValueError(f"--not-test {given.not_test!r} is not the source, which is {given.source or folder.resolve().name!r}")
    index = reindex(folder, given.license, given.source, given.split, stated, given.audio)
    print(f"{given.folder}/{INDEX_NAME}: {index.size()} of {index.sample_rate} Hz")
    return 0


if __name__ == "__main__":
    run_main(main)
