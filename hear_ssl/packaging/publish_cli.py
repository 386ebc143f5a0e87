"""hear-ssl publish --tree dist/hear_mymodel --weights dist/hear_mymodel-0.1.0.safetensors --to TARGET --public-url URL."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish with the options of the command line."""
    given = parse_arguments(arguments)
    from hear_ssl.packaging.publish import publish  # loads torch

    publish(Path(given.tree), Path(given.weights), given.to, given.public_url, given.weights_only)
    return 0


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl publish",
        formatter_class=HelpText,
        description="Upload a model's weights and manifest, then load the model as a stranger would: clean environment, no credentials, "
        "public URL. A folder or a repository hf://ORG/NAME also gets the files from which transformers.AutoModel loads the model.",
        epilog="Zenodo and GitHub releases: upload the .safetensors file by hand under the name that hear-ssl package gave it (Zenodo: new "
        "upload, licence CC BY 4.0, publish; GitHub: gh release create TAG FILE), then run this with --to the local folder of that file "
        "and --public-url the address of the upload (Zenodo: https://zenodo.org/records/N/files/NAME, "
        "GitHub: https://github.com/OWNER/REPOSITORY/releases/download/TAG/NAME): nothing is uploaded, the rest is done and checked.",
    )
    parser.add_argument("--tree", required=True, type=user_path, metavar="FOLDER", help="source tree that hear-ssl package wrote")
    parser.add_argument("--weights", required=True, type=user_path, metavar="FILE", help="weights file that hear-ssl package wrote")
    parser.add_argument("--to", required=True, type=user_path, metavar="TARGET", help="a folder, s3://, gs://, hf:// or any fsspec address")
    parser.add_argument("--public-url", required=True, metavar="URL", help="http(s) address under which anyone reads the uploaded file")
    parser.add_argument(
        "--weights-only",
        action="store_true",
        help="upload the weights and their manifest alone: no config.json, model.safetensors, modeling file and README.md for transformers",
    )
    return parser.parse_args(given)
