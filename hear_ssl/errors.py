"""Errors of commands: one line on stderr and exit status 2 for a user's mistake, 130 for Ctrl-C; in Python an exception with that line."""

from __future__ import annotations

import errno
import functools
import os
import select
import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from hear_ssl.addresses import redacted_text
from hear_ssl.machine import settle_process
from hear_ssl.progress import to_terminal

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def nearest(given: str, allowed: list[str]) -> str:
    """Return the allowed name nearest to a mistyped one, as ' (did you mean X?)', or '' when none is near."""
    close = get_close_matches(given, allowed, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def printable(text: str) -> str:
    """Return an untrusted text on one line: control characters (escape sequences, line breaks) are escaped, such as \\x1b."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def one_line(error: BaseException | str) -> str:
    """Return an error's message for a terminal or a record: one line, without credentials; its class if it has no message."""
    return printable(redacted_text(" ".join(str(error).split()))) or type(error).__name__


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Prepare the process (see `settle_process`), run a script's main, and exit with its status.

    ValueError, FileNotFoundError and every other OSError are a user's mistake or a state of the machine: one line, exit status 2.
    Any other exception is a bug and keeps its traceback. SIGTERM ends the script like Ctrl-C, so that unfinished files are removed,
    with exit status 143. When the reader of its output has ended, as in `| head`, it ends silently with exit status 141.
    """
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        settle_process()
        to_terminal()
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        sys.exit(_status(main))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            sys.exit(128 + signal.SIGPIPE)
        print(f"error: {message(error)}", file=sys.stderr)
        sys.exit(2)


def verb(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function for Python whose ValueError and OSError have the line that the command would print, without credentials.

    It first prepares the process as a command does (see `settle_process`).
    """

    @functools.wraps(function)
    def called(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        settle_process()
        try:
            return function(*arguments, **options)
        except (ValueError, OSError) as error:
            line = message(error)
            if line == str(error):
                raise
            plain = OSError(line) if isinstance(error, OSError) else ValueError(line)
            if isinstance(plain, OSError) and isinstance(error, OSError):
                plain.errno, plain.filename = error.errno, error.filename
            raise plain from None

    return called


def message(error: ValueError | OSError) -> str:
    """Return the line of an error for the user."""
    line = _line(error)
    if "No usable temporary directory" in line:  # of tempfile
        line += "; set TMPDIR to a folder that can be written"
    return one_line(line) if line.strip() else type(error).__name__


def _status(main: Callable[[], int | None]) -> int | str | None:
    """Return the exit status of a script's main after flushing its output. Raises BrokenPipeError when the reader has ended."""
    try:
        status: int | str | None = main() or 0
    except SystemExit as ended:  # of argparse, for --help
        status = ended.code
    if sys.stdout:
        sys.stdout.flush()
    return status


def _output_is_closed() -> bool:
    """Return whether the reader of standard output has ended; if so, discard all further output."""
    if sys.__stdout__ is None:
        return False
    output, poll = sys.__stdout__.fileno(), select.poll()
    poll.register(output, 0)
    if not poll.poll(0):  # errors are always reported
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # the interpreter flushes again at its end
    return True


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    print("terminated", file=sys.stderr)
    raise SystemExit(128 + number)


def _line(error: ValueError | OSError) -> str:
    """Return an error's message; for a full disk, the file that cannot be written and the remedy."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename:
        return f"{error.filename} cannot be written: {error.strerror}; free space, then run the command again (a training: --resume)"
    return str(error)
