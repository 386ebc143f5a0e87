"""python -m rules MODULE ROWS [WEIGHTS] [--memory all|reported|none]: import, load, check, write each row as it is measured."""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Optional

from . import golden_check, independence, memory, outputs, timing
from .rows import END, RuleResult, Submission, run_checks, write_result
from .tensorflow_module import TensorFlowModule, is_tensorflow, wrap

MEMORY = {"all": memory.CHECKS, "reported": memory.REPORTED, "none": []}


def main() -> None:
    """Check the module given on the command line."""
    warnings.filterwarnings("ignore")
    arguments = parse_arguments()
    out = Path(arguments.rows)
    submission = load(arguments.module, arguments.weights, out)
    if submission:
        checks = outputs.CHECKS + independence.CHECKS + timing.CHECKS + golden_check.CHECKS + MEMORY[arguments.memory]
        run_checks(submission, checks, lambda row: write_result(out, row))
    write_result(out, END)


def load(name: str, weights: Optional[str], out: Path) -> Optional[Submission]:
    """Import a module, load its model in an empty working directory, and write both rows; return None when that fails."""
    rule = "The module imports, and load_model(path) and load_model() return the model."
    write_result(out, RuleResult("import and load", rule, "", None))
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        try:
            module = importlib.import_module(name)
            start = time.perf_counter()
            submission = Submission(module, module.load_model(weights) if weights else module.load_model(), weights)
            if is_tensorflow(submission.model):
                submission = Submission(TensorFlowModule(module), wrap(submission.model), weights)
            measured = f"loaded in {time.perf_counter() - start:.2f} s"
        except Exception as error:  # any error of the module on import or load is the measurement
            message = f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            write_result(out, RuleResult("import and load", rule, message, False))
            return None
        finally:
            left = sorted(os.listdir(empty))
            os.chdir(out.parent)
    write_result(out, RuleResult("import and load", rule, measured, True))
    reason = "Some submissions download their weights to wherever they run: other users find them gone, or read-only."
    rule = "Loading writes nothing into the working directory."
    write_result(
        out, RuleResult("working directory left alone", rule, f"wrote {', '.join(left)[:120]}" if left else "nothing", not left, reason)
    )
    return submission


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="rules", description="Measure the rules of the HEAR API on an importable module.")
    parser.add_argument("module", help="name of the module")
    parser.add_argument("rows", help="absolute path of the file to write, one row a line")
    parser.add_argument("weights", nargs="?", help="weights file to load")
    parser.add_argument("--memory", choices=sorted(MEMORY), default="all", help="which clips of minutes to measure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
