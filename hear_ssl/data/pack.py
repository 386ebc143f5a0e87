"""hear-ssl pack INPUT ... --out SHARDS: pack audio files into WebDataset shards."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.data.packing.clips import FORMATS, PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.part_of import parse_part
from hear_ssl.errors import run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import usable_cores, user_path


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl pack",
        formatter_class=HelpText,
        description="Pack audio into shards to train on: mono, one rate, clips of at most 30 s, each with its source and licence. "
        "Stop it at any time; the same command resumes.",
        epilog="Example: hear-ssl pack recordings/ more.zip --out shards --license CC-BY-4.0 --workers 4",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=user_path,
        metavar="INPUT",
        help="audio file, folder, tar or zip archive, parquet file with audio bytes, or a list (CSV, TSV, JSON, JSONL, text) with a column "
        "path, file_name, audio_filepath or wav and optionally license, split, source",
    )
    parser.add_argument("--out", required=True, type=user_path, metavar="FOLDER", help="folder for the shards, index.json and rejected.csv")
    parser.add_argument("--sample-rate", type=int, default=16000, metavar="HZ", help="rate of the clips (default: %(default)s)")
    parser.add_argument("--codec", choices=sorted(FORMATS), default="flac", help="flac and wav are lossless (default: %(default)s)")
    parser.add_argument(
        "--license", default="unknown", metavar="NAME", help="licence of the audio where a list names none (SPDX, such as CC-BY-4.0)"
    )
    parser.add_argument(
        "--split",
        default="train",
        metavar="NAME",
        help="split of the audio; of a list that names splits, the rows of this one (default: %(default)s)",
    )
    parser.add_argument(
        "--not-test",
        action="append",
        default=[],
        metavar="SOURCE",
        help="source that is not test data though a folder, an archive or a list has such a name; noted in the data card; repeatable",
    )
    parser.add_argument("--min-seconds", type=float, default=0.1, metavar="S", help="shorter files are rejected (default: %(default)s)")
    parser.add_argument("--max-seconds", type=float, default=30.0, metavar="S", help="longer recordings are cut (default: %(default)s)")
    parser.add_argument("--clips-per-shard", type=int, default=512, metavar="N", help="clips in a shard (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="processes (default: one for each core this process may use)"
    )
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="pack only part K of N, such as 3/64, into FOLDER/part-03-of-64, for the jobs of an array, which need no communication; give "
        "all of them the same other arguments, then make one folder of the parts: hear-ssl merge FOLDER",
    )
    return parser.parse_args(given)


def check_arguments(arguments: argparse.Namespace) -> PackOptions:
    """Return the options. Raises ValueError that names the argument out of range."""
    for name, low, high in (("sample_rate", 4000, 192000), ("clips_per_shard", 1, 10**6), ("workers", 1, 1024), ("max_seconds", 1.0, 30.0)):
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be {low} to {high}")
    if not 0.0 < arguments.min_seconds <= arguments.max_seconds:
        raise ValueError(f"--min-seconds is {arguments.min_seconds}; it must be above 0 and at most --max-seconds")
    return PackOptions(arguments.sample_rate, arguments.codec, arguments.min_seconds, arguments.max_seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack with the options of the command line."""
    given = parse_arguments(arguments)
    options = check_arguments(given)
    part = parse_part(given.part) if given.part else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, which a shell may ignore; finished shards are kept
    left: Counter[str] = Counter()
    items = list_items(given.inputs, given.license, given.split, given.out, given.not_test, left)
    index = pack(items, Path(given.out), options, given.clips_per_shard, given.workers, True, part)
    out = str(Path(given.out, part.folder)) if part else given.out
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(index.rejected.items()))
    rejected = f"{counts} (listed in {Path(out, 'rejected.csv')})" if counts else "none"
    print(f"packed {index.size()} into {out}; rejected: {rejected}")
    if not part and index.clips > len(items):
        print(f"{len(items)} files have {index.clips} clips: recordings longer than {options.max_seconds:g} s are cut", file=sys.stderr)
    if left:
        print(f"not packed: {', '.join(f'{count} {what}' for what, count in sorted(left.items()))}", file=sys.stderr)
    unlicensed = sum(source.hours for source in index.sources if source.license == "unknown")
    if unlicensed:
        print(f"{unlicensed:.2f} hours have no licence: export will ask for one; state it with --license or in a list")
    return 0


if __name__ == "__main__":
    run_main(main)
