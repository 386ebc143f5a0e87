"""Progress reports: to the logger `hear_ssl` in Python, to the terminal on the command line."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("hear_ssl")


class Terminal(logging.Handler):
    """Print each line unchanged on standard output, or on stderr if its record requires that."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line of a record."""
        print(record.getMessage(), file=sys.stderr if getattr(record, "aside", False) else sys.stdout, flush=True)


def report(line: str, aside: bool = False) -> None:
    """Report progress at level INFO; `aside` prints on stderr, for a command whose output is its result."""
    LOGGER.info("%s", line, extra={"aside": aside})


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def warn(line: str, aside: bool = False) -> None:
    """Report a warning at level WARNING; see `report`."""
    LOGGER.warning("%s", line, extra={"aside": aside})


def to_terminal() -> None:
    """Print all reports from now on, in the process of a command; a second call has no effect."""
    if not on_terminal():
        LOGGER.addHandler(Terminal())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def on_terminal() -> bool:
    """Return whether reports are printed, as in a command."""
    return any(isinstance(handler, Terminal) for handler in LOGGER.handlers)
