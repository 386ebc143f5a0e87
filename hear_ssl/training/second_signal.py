"""End a run at once on a second Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
import time

from hear_ssl.data.stream.workers import kill_workers

SAME_SIGNAL_SECONDS = 0.5  # a signal may reach a process twice: through its process group and from torchrun
LAST_SECONDS = 20.0  # time for an orderly end


class SecondSignal:
    """Recognise a second signal, and end the process after LAST_SECONDS if its main thread does not.

    While the main thread waits for other ranks in a collective operation, Python's handlers do not run. A thread therefore reads the
    signals that the C handler writes.
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
    """Return whether a signal ends the run at once; `first` has the time of the first signal of each kind and is updated."""
    now, earlier = time.monotonic(), bool(first)
    again = now - first.setdefault(number, now) > SAME_SIGNAL_SECONDS
    return (number == signal.SIGINT and earlier) or (number == signal.SIGTERM and again)
