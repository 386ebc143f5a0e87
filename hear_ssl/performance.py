"""What makes the CPU faster without changing a number: memory that is kept, and layouts that convolutions like."""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back after every step; return whether it did.

    A training step frees and takes the same hundreds of MB each time, and faulting the pages in again costs a third of
    the step. Call before torch loads. Does nothing on other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 256 * 2**20))
        applied = [libc.mallopt(option, value) == 1 for option, value in settings]
        return all(applied)
    except (OSError, AttributeError):
        return False
