"""What a command reports while it works: to the logger `hear_ssl` in Python, to the terminal on the command line."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("hear_ssl")


class Terminal(logging.Handler):
    """Prints each line as it is, on standard output, or on stderr where its record asks for that."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line of a record."""
        print(record.getMessage(), file=sys.stderr if getattr(record, "aside", False) else sys.stdout, flush=True)


def report(line: str, aside: bool = False) -> None:
    """Report how far something is, at level INFO; `aside` prints on stderr, for a command whose output is its result."""
    LOGGER.info("%s", line, extra={"aside": aside})


def warn(line: str, aside: bool = False) -> None:
    """Report what a user should notice, at level WARNING; see `report`."""
    LOGGER.warning("%s", line, extra={"aside": aside})


def to_terminal() -> None:
    """Print what is reported from now on. For a process that is a command; a second call changes nothing."""
    if not on_terminal():
        LOGGER.addHandler(Terminal())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def on_terminal() -> bool:
    """Return whether reports are printed, as on the command line."""
    return any(isinstance(handler, Terminal) for handler in LOGGER.handlers)
