"""End a process when its parent ends, also when the parent is killed; detect stopped processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path


def end_with_parent() -> None:
    """Start a thread that ends this process as soon as its parent has ended for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def is_stopped(pid: int | None) -> bool:
    """Return whether a process is stopped by a signal or a debugger; False where the system does not report it (no /proc)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError, UnicodeDecodeError):
        return False
