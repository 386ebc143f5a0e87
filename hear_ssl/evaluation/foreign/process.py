"""The process that runs worker.py with the Python of another environment, and the communication with it.

It ends when it is closed or garbage-collected, and when this process ends. Its output and that of the module are written to a log file.
If it died, the next request starts it again: a module may run out of memory on one task only.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_ssl.errors import printable
from hear_ssl.evaluation.protocol.parallel import check_ended

WORKER = Path(__file__).with_name("worker.py")
# -c: modules are searched in the current folder, as by `python -c "import NAME"`, and not in the folder of the file that is run
BOOT = """import sys
if sys.version_info < (3, 7): sys.exit("Python %d.%d is too old; 3.7 or newer is needed" % sys.version_info[:2])
import runpy; runpy.run_path(sys.argv[1], run_name="__main__")"""
OF_OURS = ("PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")  # they refer to the Python of this process
DTYPES = ("float16", "float32", "float64", "int32", "int64")
MAX_HEADER, MAX_BYTES = 2**20, 16 * 2**30  # the second is HEAR's memory limit for 20 minutes of audio
POLL_SECONDS = 0.2
SILENT_SECONDS = 3600.0  # for one batch, or to load a model that downloads its weights


class ForeignProcess:
    """Worker processes with one Python for one module, one at a time; `load` is the first request to each."""

    def __init__(self, python: str, load: dict[str, Any], log: Path) -> None:
        self.python, self.load, self.log = python, load, log
        self.where = f"{load['module']} in {python}"
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        self.loaded = self.ask({})[0]

    def ask(self, header: dict[str, Any], audio: NDArray[Any] | None = None) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Return the answer to a request and its arrays; an empty header requests a description of the module.

        Raises ValueError when the module fails or has changed, or its process ends or is silent for an hour.
        """
        with self._lock:
            check_ended()
            try:
                loaded = self._start() if self._process is None else {}
                if not header:
                    return loaded, []
                if loaded and any(loaded.get(name) != self.loaded.get(name) for name in ("code", "state", "environment")):
                    raise ValueError(f"{self.where} has changed since the evaluation began; evaluate again")
                return self._exchange(header, audio)
            except _ModuleError as error:
                raise ValueError(f"{error}; the whole text is in {self.log}") from None
            except BaseException:  # also Ctrl-C: an answer may have been sent partly
                self.close()
                raise

    def close(self) -> None:
        """End the process and its child processes."""
        if self._end is not None:
            self._end()
        self._process = self._channel = self._end = None

    def _start(self) -> dict[str, Any]:
        here, there = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if name not in OF_OURS}
        if self.load["device"] == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"  # for modules that choose for themselves
        command = [self.python, "-u", "-X", "faulthandler", "-c", BOOT, str(WORKER), str(there.fileno())]
        with there, open(self.log, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=[there.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                here.close()
                raise ValueError(f"{self.python} does not start: {error.strerror}; give ENV/bin/python of an environment") from None
        here.settimeout(POLL_SECONDS)
        self._channel = here
        self._end = weakref.finalize(self, _end, self._process, here)
        try:
            return self._exchange(self.load)[0]
        except _ModuleError as error:
            self.close()
            raise _ModuleError(f"{self.load['module']} does not load in {self.python}: {error}") from None

    def _exchange(self, header: dict[str, Any], audio: NDArray[Any] | None = None) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        arrays = [] if audio is None else [np.ascontiguousarray(audio)]
        text = json.dumps({**header, "arrays": [[array.dtype.name, list(array.shape)] for array in arrays]}).encode()
        self._send(memoryview(struct.pack(">I", len(text)) + text))
        for array in arrays:
            self._send(array.data.cast("B"))
        answer, described = parse_header(bytes(self._read(self._read_length())))
        results = [np.empty(shape, dtype) for dtype, shape in described]
        for result in results:
            if result.nbytes:
                self._read_into(result.data.cast("B"))
        if "refused" in answer or "error" in answer:
            raise _ModuleError(printable(str(answer.get("refused") or answer["error"])))
        return answer, results

    def _read_length(self) -> int:
        length = int(struct.unpack(">I", self._read(4))[0])
        if length > MAX_HEADER:
            raise ValueError(f"{self.where} gave a damaged answer; the module may write to file descriptors that are not its own")
        return length

    def _read(self, count: int) -> bytearray:
        content = bytearray(count)
        self._read_into(memoryview(content))
        return content

    def _read_into(self, view: memoryview) -> None:
        assert self._channel is not None
        self._transfer(view, self._channel.recv_into)

    def _send(self, view: memoryview) -> None:
        assert self._channel is not None
        self._transfer(view, self._channel.send)

    def _transfer(self, view: memoryview, step: Callable[[memoryview], int]) -> None:
        """Transfer a view by calls of `step`, which returns the number of bytes transferred. Raises ValueError when the process is gone."""
        silent_since = time.monotonic()
        while view:
            try:
                count = step(view)
            except TimeoutError:
                self._check(silent_since)
                continue
            except ConnectionError:
                count = 0
            if not count:
                raise self._died()
            view, silent_since = view[count:], time.monotonic()

    def _check(self, silent_since: float) -> None:
        """Raise ValueError when the process has ended or was silent for too long, RuntimeError when its result is no longer needed."""
        check_ended()
        assert self._process is not None
        if self._process.poll() is not None:
            raise self._died()
        if time.monotonic() - silent_since > SILENT_SECONDS:
            raise ValueError(f"{self.where} was silent for {SILENT_SECONDS:g} s, so it was ended; what it printed is in {self.log}")

    def _died(self) -> ValueError:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        status = self._process.poll()
        how = "closed its connection" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by {signal.Signals(-status).name}" + (", out of memory?" if status == -signal.SIGKILL else "")
        lines = [line.strip() for line in tail(self.log).splitlines() if line.strip()]
        last = f": {printable(lines[-1][:200])}" if lines else ""
        return ValueError(f"{self.where} {how}{last}; what it printed is in {self.log}")


class _ModuleError(Exception):
    """An error of the module; its process still answers."""


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    channel.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def parse_header(text: bytes) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...]]]]:
    """Return a header and dtypes and shapes of the following arrays. Raises ValueError when it is damaged or the arrays are too large."""
    try:
        header = json.loads(text)
        described = [(str(dtype), tuple(shape)) for dtype, shape in header["arrays"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("the answer of the module's process is damaged") from None
    for dtype, shape in described:
        if dtype not in DTYPES or len(shape) > 4 or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(printable(f"the module's process answers with an array {dtype[:20]} {str(list(shape))[:80]}"))
        if math.prod(shape) * np.dtype(dtype).itemsize > MAX_BYTES:
            raise ValueError(f"the module returned {list(shape)} {dtype}, more than the 16 GB of the HEAR API")
    return header, described


def tail(log: Path, count: int = 4096) -> str:
    """Return the end of a log file."""
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count))
        return file.read().decode(errors="replace")


def checked_python(python: str, option: str = "--python") -> str:
    """Return the absolute path of an interpreter, given by its path, its name in PATH, or the folder of its environment.

    Links are not resolved: the Python of an environment is a link and finds its packages by the location of the link. Raises ValueError
    when it is not a program.
    """
    inside = Path(python) / "bin" / "python"
    found = str(inside) if os.path.isdir(python) and inside.is_file() else shutil.which(python)
    if found is None:
        raise ValueError(f"{option} {python} is not a program; give the path of a Python, such as ENV/bin/python")
    return os.path.abspath(found)
