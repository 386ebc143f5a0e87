"""Decode audio files to their real end, whatever length the header states.

The length in a header is an estimate: it is missing when the writer used a pipe, too large in a truncated file, and that of the first
part in a concatenated file. `streams` splits a file into its streams and gives each to libsndfile with a header without a length, or
with the right one.
Needs soundfile and numpy, the extra `embed` of a wheel. Formats: https://xiph.org/flac/format.html, RFC 3533 (OGG), RFC 2361 (RIFF),
EBU Tech 3306 (RF64), Apple's CAF specification, and the Xing header of MPEG audio.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
from typing import Any, Iterator, List

BLOCK_FRAMES, UNKNOWN = 1 << 14, 2**63 - 1
RATES = (1000, 1 << 22)  # Hz; a small file of a lower rate would fill gigabytes after resampling, and no audio has a higher one
MOST_CHANNELS = 256
SUFFIXES = {
    *(".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus"),
    *(".rf64", ".snd", ".sph", ".voc", ".w64", ".wav", ".wave"),
}
BEGINNINGS = {b"fLaC": b"fLaC[\0\x80]\0\0\x22", b"OggS": b"OggS\0[\2\3\6\7]"}
CAF, AIFF, WAV = ">4sq", ">4sI", "<4sI"  # name and size of a chunk
FORMS = {b"RIFF": (WAV, 12, b"data"), b"RF64": (WAV, 12, b"data"), b"FORM": (AIFF, 12, b"SSND"), b"caff": (CAF, 8, b"data")}


class Stream(io.RawIOBase):
    """One stream of an encoded file, read as a file of its own: the header `head`, then `content` from `start` to `stop`.

    libsndfile reads no further than the frame count in the header, therefore `head` has none. For MPEG, libsndfile estimates the count
    from the file size, therefore the stream claims to be `long` times as large. The file states `frames`; `expected` of them must
    decode."""

    def __init__(self, content: Any, start: int, stop: int, head: bytes = b"", frames: int = 0, expected: int = 0, long: int = 1) -> None:
        self.content, self.head, self.shift, self.bytes = content, head, start - len(head), len(head) + stop - start
        self.place, self.claimed, self.frames, self.expected = 0, self.bytes * long, frames, expected
        self.rate, self.channels, self.count, self.loss = 0, 0, 0, ""

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = max(0, offset + (0, self.place, self.claimed)[whence])
        return self.place

    def readinto(self, buffer: Any) -> int:
        if self.bytes < self.claimed - 128 <= self.place:  # where mpg123 looks for a tag
            part = bytes(max(0, min(len(buffer), self.claimed - self.place)))
        elif self.place < len(self.head):
            part = self.head[self.place : self.place + len(buffer)]
        else:
            part = self.content[self.shift + self.place : self.shift + min(self.place + len(buffer), self.bytes)]
        buffer[: len(part)] = part
        self.place += len(part)
        return len(part)

    def open(self) -> Any:
        """Return the stream as a SoundFile at its start. Raises ValueError when its sample rate or channel count is impossible."""
        import soundfile

        self.seek(0)
        sound = soundfile.SoundFile(self)
        sound.seekable = lambda: False  # soundfile then neither limits reads to the stated frames nor seeks after a read
        self.rate, self.channels = sound.samplerate, sound.channels
        if not RATES[0] <= self.rate <= RATES[1]:
            raise ValueError(f"its sample rate is {self.rate} Hz; from {RATES[0]} to {RATES[1]} Hz can be read")
        if self.channels > MOST_CHANNELS:
            raise ValueError(f"it has {self.channels} channels; up to {MOST_CHANNELS} can be read")
        return sound

    def blocks(self) -> Iterator[Any]:
        """Yield the samples (frames, channels) up to the real end; then set `count`, and `loss` when some are missing."""
        import numpy

        self.count, self.loss, decodes = 0, "", True
        with self.open() as sound:
            while decodes:
                rest = self.frames - self.count  # bytes after the last frame must not make that frame unreadable
                block = numpy.full((min(BLOCK_FRAMES, rest) if rest > 0 else BLOCK_FRAMES, self.channels), numpy.nan, numpy.float32)
                try:
                    found = sound.read(out=block)
                    decodes = len(found) > 0
                except RuntimeError:  # the block contains the frames decoded before the damage
                    found, decodes = block[: int((block == block).any(axis=1).sum())], False
                    self.loss = f"does not decode after {self.count + len(found)} samples" if rest > len(found) or not self.frames else ""
                self.count += len(found)
                yield found
        if self.count < self.expected:
            self.loss = f"ends after {self.count} of {self.frames or 'an unknown number of'} samples"


def streams(content: Any) -> List[Stream]:
    """Return the streams of an encoded file (bytes or mmap): several when files were concatenated or chained."""
    start, length, starts, end = 0, len(content), [], -1
    while content[start : start + 3] == b"ID3" and start + 10 < length:
        start += 10 + (content[start + 6] << 21 | content[start + 7] << 14 | content[start + 8] << 7 | content[start + 9])
    mark = content[start : start + 4]
    if mark in FORMS:
        return forms(content, start)
    if mark == b".snd":  # AU: this data size means everything up to the end of the file
        return [Stream(content, start + 12, length, content[start : start + 8] + b"\xff" * 4)]
    if mark == b"riff":  # W64
        at = content.find(b"data\xf3\xac\xd3\x11", start) + 16
        return [Stream(content, at + 8, length, content[start:at] + struct.pack("<Q", length - at + 16))]
    if mark not in BEGINNINGS:
        return mpeg(content, start) if mark[:1] == b"\xff" else other(content, start)
    for found in re.compile(BEGINNINGS[mark]).finditer(content, start):
        if found.start() != end:  # the first pages of parallel OGG streams are adjacent
            starts.append(found.start())
        end = found.start() + 27 + sum(content[found.start() + 26 : found.start() + 27])
        end = end + sum(content[found.start() + 27 : end]) if mark == b"OggS" else -1
    parts = list(map(lambda first, stop: Stream(content, first, stop), starts or [start], [*starts[1:], length]))
    for part in parts if mark == b"OggS" else []:
        last = content.rfind(mark, part.shift, part.shift + part.bytes)  # the last page must be flagged as last and complete
        sizes = content[last + 27 : last + 27 + sum(content[last + 26 : last + 27])]
        fits = last + 27 + len(sizes) + sum(sizes) <= part.shift + part.bytes
        part.expected = 0 if fits and sum(content[last + 5 : last + 6]) & 4 else UNKNOWN
    return parts if mark == b"OggS" else list(map(flac, parts))


def flac(stream: Stream) -> Stream:
    """Return a FLAC stream with a header that states no length."""
    start, head = stream.shift, stream.content[stream.shift : stream.shift + 26].ljust(26, b"\0")
    unstated, frames = head[:21] + bytes([head[21] & 0xF0, 0, 0, 0, 0]), int.from_bytes(head[21:], "big") & 2**36 - 1
    return Stream(stream.content, start + 26, start + stream.bytes, unstated, frames)


def other(content: Any, start: int) -> List[Stream]:
    """Return the streams of MPEG audio, which may begin within a frame, or the whole file. Raises what libsndfile raises."""
    for place in (0, *(start + found.start() for found in re.finditer(b"\xff[\xe2-\xff]", content[start : start + 4096]))):
        with contextlib.suppress(RuntimeError), Stream(content, place, len(content)).open() as sound:
            return mpeg(content, max(place, start)) if sound.format == "MP3" else [Stream(content, 0, len(content))]
    return [Stream(content, 0, len(content))]


def mpeg(content: Any, start: int) -> List[Stream]:
    """Return the streams of MPEG audio: a frame with a Xing header begins a stream; it is left out where its length does not fit."""
    marks, found = {start: 0}, []
    for mark in (*re.finditer(b"Xing", content), *re.finditer(b"Info", content)):
        for place in (mark.start() - 36, mark.start() - 21, mark.start() - 13):  # header and side information of 32, 17 or 9 bytes
            if place >= start and content[place] == 255 and content[place + 1] & 0xE6 == 0xE2:
                marks[place] = mark.start()
    for place, at in sorted(marks.items()):
        stop = min((later for later in marks if later > place), default=len(content))
        flags, frames, size = struct.unpack(">III", content[at + 4 : at + 16].ljust(12, b"\0")) if at else (0, 0, 0)
        tagged = content[place + size : place + size + 3] in (b"ID3", b"APE")
        end = place + size if tagged else stop - 128 * (content[stop - 128 : stop - 125] == b"TAG")
        fits = flags & 3 == 3 and frames and abs(end - place - size) <= 2 * size // frames
        first = max(place, content.find(content[place : place + 2], at + 120, stop) if at else 0)
        frames *= 1152 if (content[place + 1 : place + 2] or b"\0")[0] & 8 else 576  # delay and padding are at most three times that
        found.append(Stream(content, place, stop) if fits else Stream(content, first, stop, b"", frames, frames - 3456, 64))
    return found


def forms(content: Any, start: int) -> List[Stream]:
    """Return the streams of concatenated WAV, AIFF or CAF files; data whose stated end is impossible reach to the end of the file."""
    found, length = [], len(content)
    while content[start : start + 4] in FORMS:
        order, place, data = FORMS[content[start : start + 4]]
        first, place, align, patch = start, start + place, 1, (start, b"", 0)
        while place + struct.calcsize(order) <= length and content[place : place + 4] not in FORMS:
            name, size = struct.unpack_from(order, content, place)
            body = place + struct.calcsize(order)
            align = max(1, int.from_bytes(content[body + 12 : body + 14], "little")) if name == b"fmt " else align
            if name == data and size == 0xFFFFFFFF and content[first : first + 4] == b"RF64":
                size = int.from_bytes(content[first + 28 : first + 36], "little")
            if name == data and (size < 0 or size % align or not may_end_at(content, body + size, order)):
                frames = size // align if size < 0x7F000000 and body + size > length else 0
                size += -size % align
                size = size if size >= 0 and may_end_at(content, body + size, order) else length - body
                head = content[first:place].replace(b"RF64", b"RIFF", 1).replace(b"ds64", b"JUNK", 1)
                if order == WAV and size > 0xFFFFFFFF:  # which RIFF cannot state
                    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, size, 0, 0) + head[12:]
                patch = body, head + struct.pack(order, name, size if order == CAF else min(size, 0xFFFFFFFF)), frames
            place = body + max(0, size) + (size % 2 if order != CAF else 0)
        start = min(place, length)
        found.append(Stream(content, patch[0], start, patch[1], patch[2], patch[2]))
    return found


def may_end_at(content: Any, place: int, order: str) -> bool:
    """Return whether a WAV, AIFF or CAF file may end at `place`: the end of the file, another file, a tag or chunks follow there."""
    while place < len(content) - 1:
        place += place % 2 if content[place : place + 1] == b"\0" else 0  # padding after an odd size
        if content[place : place + 4] in FORMS or content[place : place + 3] in (b"TAG", b"ID3"):
            return True
        if not re.fullmatch(b"[ -~]{4}", content[place : place + 4]) or place + struct.calcsize(order) > len(content):
            return False
        place += struct.calcsize(order) + max(0, struct.unpack_from(order, content, place)[1])
    return place <= len(content) + 1
