"""python -m measuring MODULE ROWS.json [WEIGHTS]: import, load, check, write the rows."""

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
    name, out = sys.argv[1], Path(sys.argv[2])
    weights = sys.argv[3] if len(sys.argv) > 3 else None
    rule = "The module imports, and load_model(path) and load_model() return the model."
    rows = []
    try:
        module = importlib.import_module(name)
        start = time.perf_counter()
        model = module.load_model(weights) if weights else module.load_model()
        seconds = time.perf_counter() - start
        rows.append(Row("import and load", rule, f"loaded in {seconds:.2f} s", True))
        subject = Subject(module, model, weights)
        rows += run_checks(subject, outputs.CHECKS + timing.CHECKS + golden.CHECKS + memory.CHECKS)
    except Exception as error:  # whatever the module raises on import or load is the finding
        rows.append(Row("import and load", rule, f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}", False))
    out.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
