"""Read encoded audio in memory as a file, with soundfile's libsndfile but less overhead.

`soundfile.SoundFile` creates five callbacks for every file, and seeks after every read, which decodes a FLAC frame again; together
this is a fifth of the time of a crop. Here the callbacks are created once, and there is no seek after a read; the samples are the
same. If soundfile does not have the two internal names used here, SoundFile is used.
"""

from __future__ import annotations

import io
from functools import cache
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

READ_MODE = 0x10
TYPE_MASK, TYPES = 0x0FFF0000, {0x00200000: "OGG", 0x00230000: "MP3"}


def open_sound(content: bytes) -> Any:
    """Return encoded audio as an open file with frames, samplerate, channels, format, seek() and read(out=...), a context manager.

    Raises soundfile.SoundFileError when it is not audio; seek and read raise it when the audio does not decode.
    """
    if hasattr(soundfile, "_ffi") and hasattr(soundfile, "_snd"):
        return SoundBytes(content)
    return soundfile.SoundFile(io.BytesIO(content))


class SoundBytes:
    """One open file in memory, a context manager."""

    def __init__(self, content: bytes) -> None:
        table, _ = _library()
        self.source = SimpleNamespace(content=memoryview(content), place=0)
        self.handle = soundfile._ffi.new_handle(self.source)
        information = soundfile._ffi.new("SF_INFO*")
        self.file = soundfile._snd.sf_open_virtual(table, READ_MODE, information, self.handle)
        if self.file == soundfile._ffi.NULL:
            raise soundfile.LibsndfileError(soundfile._snd.sf_error(self.file))
        self.frames, self.samplerate, self.channels = information.frames, information.samplerate, information.channels
        self.format = TYPES.get(information.format & TYPE_MASK, "")

    def __enter__(self) -> SoundBytes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        soundfile._snd.sf_close(self.file)

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        soundfile._snd.sf_seek(self.file, frame, 0)
        self._check()

    def read(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill `out` (frames,) or (frames, channels) from the current position and return the filled part."""
        frames = soundfile._snd.sf_readf_float(self.file, soundfile._ffi.from_buffer("float[]", out, require_writable=True), len(out))
        self._check()
        return out[:frames]

    def _check(self) -> None:
        code = soundfile._snd.sf_error(self.file)
        if code:
            raise soundfile.LibsndfileError(code)


@cache
def _library() -> tuple[Any, Any]:
    """Return libsndfile's table of callbacks and the callbacks, created once per process; each finds its file by its handle."""
    ffi = soundfile._ffi

    def length(handle: Any) -> int:
        return len(ffi.from_handle(handle).content)

    def seek(offset: int, whence: int, handle: Any) -> int:
        source = ffi.from_handle(handle)
        source.place = max(0, offset + (0, source.place, len(source.content))[whence])
        return int(source.place)

    def read(target: Any, count: int, handle: Any) -> int:
        source = ffi.from_handle(handle)
        part = source.content[source.place : source.place + max(0, count)]
        ffi.memmove(target, part, len(part))
        source.place += len(part)
        return len(part)

    def write(source: Any, count: int, handle: Any) -> int:
        return 0

    def tell(handle: Any) -> int:
        return int(ffi.from_handle(handle).place)

    calls = {"get_filelen": length, "seek": seek, "read": read, "write": write, "tell": tell}
    callbacks = {name: ffi.callback(f"sf_vio_{name}", call) for name, call in calls.items()}
    return ffi.new("SF_VIRTUAL_IO*", callbacks), callbacks  # which must live as long as the table
