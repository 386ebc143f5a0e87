"""hear-ssl embed FILE ... --model RUN --out embeddings.npz: embed audio files of any format and rate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.errors import run_main
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed with the options of the command line and return the exit status: 1 when a file could not be read."""
    given = parse_arguments(arguments)
    out = Path(given.out)
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} is not allowed; give a name that ends in .npz")
    from hear_ssl.loading import load  # loads torch

    model = load(given.model, weights=given.weights, parts=given.part, device=given.device)
    return model.embed_files(given.files, out, timestamps=given.timestamps)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl embed",
        formatter_class=HelpText,
        description="Embed audio files of any format and rate. Exit status 1 when some could not be read, 2 when nothing was written.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=user_path,
        metavar="FILE",
        help="audio file, or a folder of them; channels are averaged, the rate is converted",
    )
    parser.add_argument(
        "--model",
        required=True,
        type=user_path,
        metavar="NAME",
        help="a run folder, a checkpoint, the name of an installed wheel, or the hf:// or https:// address of published weights",
    )
    parser.add_argument("--out", required=True, type=user_path, metavar="FILE.npz", help="numpy archive to write: files, scene_embeddings")
    parser.add_argument("--timestamps", action="store_true", help="also timestamp_embeddings_I and timestamps_ms_I of each row I")
    parser.add_argument("--weights", default="", type=user_path, metavar="FILE", help="weights file given to load_model() of a wheel")
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        type=user_path,
        metavar="FILE.py",
        help="file of a class of your own that the published model needs; repeatable",
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:1 or mps (default: %(default)s)")
    return parser.parse_args(given)


if __name__ == "__main__":
    run_main(main)
