"""Decide from a clip's bytes, in microseconds, whether the length in its header is the real one.

A header is an estimate: it is written before the audio, guessed by libsndfile (MPEG without a Xing header), or a leftover of another
file. If it is unreliable, the clip is decoded completely.
"""

from __future__ import annotations

import itertools

from hear_ssl.model.audio_file import streams

MAGIC = b"fLaC"
STREAM_INFO = 8  # bytes before the content of the first metadata block
FURTHEST = 1 << 16  # bytes before the end to search for the last frame's header when the largest frame size is not stated
PLACES = 8
CRC = [0] * 256
for _byte in range(256):
    CRC[_byte] = _byte
    for _ in range(8):
        CRC[_byte] = (CRC[_byte] << 1 ^ (0x107 if CRC[_byte] & 0x80 else 0)) & 0xFF
SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}


def states_its_length(content: bytes, frames: int) -> bool:
    """Return whether a clip is one stream of `frames`, the frame count that libsndfile reads from its header."""
    if content[:4] == MAGIC:
        return flac_frames(content) == frames and _is_one_flac(content)
    found = streams(content)
    return len(found) == 1 and not found[0].head and found[0].claimed == len(content) - found[0].shift


def flac_frames(content: bytes) -> int:
    """Return the number of samples of a FLAC stream by the header of its last frame, or 0 when none is found (RFC 9639, 9.1)."""
    info = content[STREAM_INFO : STREAM_INFO + 34]
    if len(info) < 34:
        return 0
    fixed, largest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    place = len(content) - 1
    lowest = max(STREAM_INFO + 34, len(content) - (largest + 128 if largest else FURTHEST))
    while (place := content.rfind(b"\xff", lowest, place)) >= 0:
        if content[place + 1 : place + 2] in (b"\xf8", b"\xf9"):
            frames = _end_of_frame(content[place : place + 16], fixed)
            if frames:
                return frames
    return 0


def _is_one_flac(content: bytes) -> bool:
    """Return whether no other file follows: its start would be near the beginning, or frame numbers would decrease there."""
    if content.find(MAGIC, 4, FURTHEST) > 0:
        return False
    fixed = int.from_bytes(content[STREAM_INFO + 2 : STREAM_INFO + 4], "big")
    ends = [_frame_after(content, len(content) * part // PLACES, fixed) for part in range(1, PLACES)]
    return all(first <= second for first, second in itertools.pairwise(ends) if second)


def _frame_after(content: bytes, place: int, fixed: int) -> int:
    """Return the index of the sample after the first frame that begins after an offset, or 0 when none is near it."""
    stop = place + FURTHEST
    while (place := content.find(b"\xff", place, stop)) >= 0:
        if content[place + 1 : place + 2] in (b"\xf8", b"\xf9"):
            frames = _end_of_frame(content[place : place + 16], fixed)
            if frames:
                return frames
        place += 1
    return 0


def _end_of_frame(header: bytes, fixed: int) -> int:
    """Return the index of the sample after a frame, by its header of at most 16 bytes, or 0 when it is not a header.

    fixed: samples of every frame but the last, if the header counts frames and not samples.
    """
    header = header.ljust(16, b"\0")
    ones = 8 - (header[4] ^ 0xFF).bit_length()  # the number is coded as in UTF-8
    length = max(1, ones)
    number = header[4] & 0x7F >> ones
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    size, rate, at = header[2] >> 4, header[2] & 15, 4 + length
    samples = SIZES.get(size, 0)
    if size in (6, 7):
        samples, at = int.from_bytes(header[at : at + size - 5], "big") + 1, at + size - 5
    at += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    check = 0
    for byte in header[:at]:
        check = CRC[check ^ byte]
    if at > 15 or check != header[at] or not samples:
        return 0
    return (number if header[1] & 1 else number * fixed) + samples
