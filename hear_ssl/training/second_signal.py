"""What ends a run at once: a second Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
import time

from hear_ssl.data.stream.workers import kill_workers

SAME_SIGNAL_SECONDS = 0.5  # the end of a job may reach a process twice: with its group, and from torchrun
LAST_SECONDS = 20.0  # to end in order


class SecondSignal:
    """Recognises the second of two signals, and ends the process after LAST_SECONDS where its main thread does not.

    The main thread may wait for other ranks in a collective operation, in which Python's handlers do not run; a thread therefore
    reads the signals as the C handler writes them.
    """

    def __init__(self) -> None:
        self.writer = -1

    def watch(self) -> None:
        """Watch from now on. Call from the main thread."""
        self.close()
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        threading.Thread(target=self._read, args=(reader,), daemon=True).start()

    def close(self) -> None:
        """Stop watching. Call from the main thread."""
        if self.writer >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self.writer)
            self.writer = -1

    def _read(self, reader: int) -> None:
        first: dict[int, float] = {}
        while received := os.read(reader, 1):
            if is_second(first, received[0]):
                kill_workers()
                time.sleep(LAST_SECONDS)
                os._exit(128 + received[0])
        os.close(reader)


def is_second(first: dict[int, float], number: int) -> bool:
    """Return whether a signal ends the run at once; `first` has the time of the first signal of each kind, and gets this one's."""
    now, earlier = time.monotonic(), bool(first)
    again = now - first.setdefault(number, now) > SAME_SIGNAL_SECONDS
    return (number == signal.SIGINT and earlier) or (number == signal.SIGTERM and again)
