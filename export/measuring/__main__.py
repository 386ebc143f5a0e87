"""python -m measuring MODULE ROWS.json [WEIGHTS] [--without-memory]: import, load, check, write the rows."""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

from . import golden, memory, outputs, timing
from .rows import Row, Subject, run_checks


def main() -> None:
    """Check the module named on the command line."""
    warnings.filterwarnings("ignore")
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    name, out = given[0], Path(given[1])
    weights = given[2] if len(given) > 2 else None
    rule = "The module imports, and load_model(path) and load_model() return the model."
    rows = []
    try:
        module = importlib.import_module(name)
        start = time.perf_counter()
        model = module.load_model(weights) if weights else module.load_model()
        seconds = time.perf_counter() - start
        rows.append(Row("import and load", rule, f"loaded in {seconds:.2f} s", True))
        subject = Subject(module, model, weights)
        long = [] if "--without-memory" in sys.argv else memory.CHECKS
        rows += run_checks(subject, outputs.CHECKS + timing.CHECKS + golden.CHECKS + long)
    except Exception as error:  # whatever the module raises on import or load is the finding
        rows.append(Row("import and load", rule, f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}", False))
    out.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
