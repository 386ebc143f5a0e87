"""Fuzz every reader for a time: python -m tests.fuzz SECONDS; a fault is printed with its traceback.

The tests of tests/test_fuzz*.py run in turn, each time with other cases, and all of them equally long.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests import test_fuzz, test_fuzz_readers


def counted(test: Callable[..., None], name: str, cases: Counter[str]) -> Callable[..., None]:
    """Return a test that counts its calls in `cases` under a name."""

    @functools.wraps(test)
    def call(*arguments: Any, **options: Any) -> None:
        cases[name] += 1
        test(*arguments, **options)

    return call


def main() -> int:
    """Fuzz as the command line says; 1 when a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every reader of foreign bytes for a time.")
    parser.add_argument("seconds", type=float, help="how long, all readers together")
    faulthandler.enable()  # a decoder may crash the process; its input is the newest file of the temporary folder
    end = time.monotonic() + parser.parse_args().seconds
    tests = {
        name: test
        for module in (test_fuzz, test_fuzz_readers)
        for name, test in vars(module).items()
        if name.startswith("test_") and hasattr(test, "hypothesis")
    }
    cases: Counter[str] = Counter()
    spent, faults = dict.fromkeys(tests, 0.0), Counter[str]()
    for name, test in tests.items():
        test.hypothesis.inner_test = counted(test.hypothesis.inner_test, name, cases)
    while time.monotonic() < end:
        running = min(spent, key=lambda name: spent[name])
        start = time.monotonic()
        try:
            tests[running]()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                break
            faults[running] += 1
            print(f"{running}:", file=sys.stderr)
            traceback.print_exception(error, limit=-6)
        spent[running] += time.monotonic() - start
    for name in tests:
        print(f"{name:45} {cases[name]:9} cases {spent[name]:7.0f} s {faults[name]:4} faults")
    print(f"{'all':45} {cases.total():9} cases {sum(spent.values()):7.0f} s {faults.total():4} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
