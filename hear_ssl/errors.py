"""How scripts end: one line on stderr and exit status 2 for a user's mistake, 130 for Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn

from hear_ssl.machine import settle_process


def nearest(given: str, allowed: list[str]) -> str:
    """Say which allowed name is nearest to a mistyped one, as ' (did you mean X?)', or nothing when none is near."""
    close = get_close_matches(given, allowed, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main, once the process has what libraries ask of a machine, and exit with its status.

    ValueError, FileNotFoundError and every other OSError are a user's mistake or the machine's state: one line, exit
    status 2. Anything else is our mistake and keeps its traceback.
    """
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        settle_process()
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        if "No usable temporary directory" in line:  # of tempfile
            line += "; set TMPDIR to a folder that can be written"
        print(f"error: {line or type(error).__name__}", file=sys.stderr)
        sys.exit(2)
