"""hear-ssl verify dist/hear_mymodel-0.1.0-py3-none-any.whl [--weights FILE]: measure every rule of the HEAR API on a wheel."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the given subject and return 0 when all rules hold, 1 when one is broken."""
    given = parse_arguments(arguments)
    weights = Path(given.weights).resolve() if given.weights else None
    if weights and not weights.is_file():
        raise ValueError(f"weights {weights} do not exist; give the .safetensors file that hear-ssl package wrote")
    from hear_ssl.packaging.verify import print_rows, verify  # loads torch

    rows = verify(Path(given.subject), weights, given.torch, progress=not given.json, suites=given.suites, elsewhere=given.python)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print_rows(rows, "" if given.suites else ": ready to submit")
    return 1 if any(row.passed is False for row in rows) else 0


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl verify",
        formatter_class=HelpText,
        description="Install a submission in a clean environment, run the official validator and measure every rule of the HEAR API, "
        "one row each. Exit status 0 when all hold, 1 when one is broken.",
    )
    parser.add_argument(
        "subject", type=user_path, metavar="WHEEL", help="a wheel, an exported source tree, or the name of an importable module"
    )
    parser.add_argument("--weights", type=user_path, metavar="FILE", help="weights file to load; without it the module finds its own")
    parser.add_argument(
        "--torch", metavar="REQUIREMENT", help="download this torch instead of using the installed one, such as torch==2.4.1"
    )
    parser.add_argument(
        "--python",
        default="",
        type=user_path,
        metavar="ENV/bin/python",
        help="the Python of the environment that a module is installed in, to measure it there; see hear-ssl foreign",
    )
    parser.add_argument(
        "--suites", action="store_true", help="verify instead the adapters for MTEB, X-ARES, XARES-LLM and EVAR (downloads the first two)"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args(given)
