"""One audio file to clips: decode piece by piece, mix to mono, resample, check, encode. Runs in worker processes.

A recording longer than the limit is cut into equal pieces, so that no short rest is left over. Each piece is decoded
and resampled alone (soxr HQ), so memory does not grow with the recording. Only what was decoded counts: where the length that
a header states turns out wrong, the recording is cut again by its real one.
"""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import soundfile
import soxr

from hear_ssl.data.packing.archives import read_item
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.stream.decode import Waveform, decoder_reason
from hear_ssl.model.audio_file import Stream, streams

SILENT_PEAK = 1e-4
UNKNOWN_LENGTH = 2**63 - 1  # frames that libsndfile gives a file whose header states none
LOUDEST = 2.0**31  # integers of 32 bits that were taken for floats; beyond it lie bytes that are no sound
FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "ogg": ("OGG", "VORBIS")}


@dataclass(frozen=True)
class PackOptions:
    """How clips are made: rate in Hz, codec, shortest and longest clip in seconds."""

    sample_rate: int = 16000
    codec: str = "flac"
    min_seconds: float = 0.1
    max_seconds: float = 30.0


@dataclass(frozen=True)
class PackedClip(EncodedClip):
    """A clip ready for a shard, and the hash of its decoded audio."""

    audio_hash: str


@dataclass
class Packed:
    """What became of one file: its clips, and (offset in seconds, reason) of each piece rejected."""

    clips: list[PackedClip] = field(default_factory=list)
    rejected: list[tuple[float, str]] = field(default_factory=list)


def pack_item(item: Item, options: PackOptions) -> Packed:
    """Return the clips of one file and why others were rejected; never raises for a bad file."""
    packed = Packed()
    if item.refused:
        packed.rejected.append((0.0, item.refused))
        return packed
    try:
        offset_seconds = 0.0
        for stream in streams(_content(item)):
            offset_seconds += _pack_stream(item, stream, options, packed, offset_seconds)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError, TypeError) as error:
        packed.rejected.append((0.0, f"unreadable: {decoder_reason(error)[:120]}"))
    return packed


def _content(item: Item) -> bytes | mmap.mmap:
    """Return the encoded bytes of a file, mapped where it is no member of an archive. Raises ValueError when there are none."""
    if item.archive:
        content = read_item(item)
        if not content:
            raise ValueError("holds 0 bytes")
        return content
    with open(os.fsencode(item.path), "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("holds 0 bytes")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _pack_stream(item: Item, stream: Stream, options: PackOptions, packed: Packed, offset_seconds: float) -> float:
    """Add the clips of one stream of a file, which begins at an offset, and return its length in seconds."""
    frames = stated_frames(stream)
    if not frames:
        frames = sum(len(block) for block in stream.blocks())
    made = _cut(item, stream, frames, options, len(packed.clips), offset_seconds)
    if stream.count != frames:
        made = _cut(item, stream, stream.count, options, len(packed.clips), offset_seconds)
    seconds = stream.count / stream.rate
    if not stream.count and not stream.loss:
        packed.rejected.append((round(offset_seconds, 6), "empty"))
    elif stream.count and seconds < options.min_seconds:
        packed.rejected.append((round(offset_seconds, 6), f"too short: {seconds:.3f} s"))
    else:
        packed.clips += made.clips
        packed.rejected += made.rejected
    if stream.loss:
        packed.rejected.append((round(offset_seconds + seconds, 6), f"unreadable: {stream.loss}"))
    return seconds


def stated_frames(stream: Stream) -> int:
    """Return how many frames a stream states; 0 when it states none, or libsndfile only guesses them from the size."""
    with stream.open() as sound:
        frames = int(sound.frames)
    return stream.frames if stream.frames or stream.claimed > stream.bytes else frames % UNKNOWN_LENGTH


def _cut(item: Item, stream: Stream, frames: int, options: PackOptions, number: int, offset_seconds: float) -> Packed:
    """Return the clips of a stream cut into equal pieces as if it had so many frames, the first with the given number."""
    made = Packed()
    with stream.open():
        pieces = max(1, math.ceil(frames / (options.max_seconds * stream.rate)))
    for piece, mono in enumerate(_pieces(stream, frames, pieces)):
        seconds = offset_seconds + frames * piece // pieces / stream.rate
        waveform = mono if stream.rate == options.sample_rate else soxr.resample(mono, stream.rate, options.sample_rate, quality="HQ")
        reason = unfit(mono) or unfit(waveform)  # a resampled one may overflow, or lack what lay above half the new rate
        if reason:
            made.rejected.append((round(seconds, 6), reason))
        else:
            made.clips.append(_clip(item, waveform, (stream.rate, stream.channels, seconds), number + piece, options))
    return made


def _pieces(stream: Stream, frames: int, pieces: int) -> Iterator[Waveform]:
    """Yield the equal pieces (time,) of a stream of so many frames, as far as it decodes; what comes after them is only counted."""
    piece, start, parts = 1, 0, [np.empty(0, np.float32)]
    for block in stream.blocks():
        mono = block.mean(axis=1)
        while piece <= pieces and start + len(mono) >= frames * piece // pieces:
            cut = frames * piece // pieces - start
            parts.append(mono[:cut])
            yield np.concatenate(parts)
            piece, start, mono, parts = piece + 1, start + cut, mono[cut:], []
        start += len(mono)
        if piece <= pieces:
            parts.append(mono)


def unfit(waveform: Waveform) -> str:
    """Return why a waveform (time,) must not be trained on: non-finite, silent, or of a level that cannot be; '' when it may."""
    if not len(waveform):
        return "empty"
    if not np.isfinite(waveform).all():
        return "non-finite"
    low, high = float(waveform.min()), float(waveform.max())
    peak = max(high, -low)
    if high - low < SILENT_PEAK or peak < SILENT_PEAK:  # a constant is no sound either
        return "silent"
    if peak > LOUDEST:
        return f"implausible level: a peak of {peak:.3g}"
    if peak > 1.0:  # then the clip is scaled down, to 16 bits
        level = np.abs(waveform)
        if np.count_nonzero(level >= peak / 32767.0) < 0.5 * np.count_nonzero(level >= SILENT_PEAK):
            return f"implausible level: next to a peak of {peak:.3g} the rest is silence"
    return ""


def _clip(item: Item, waveform: Waveform, original: tuple[int, int, float], piece: int, options: PackOptions) -> PackedClip:
    rate, channels, offset_seconds = original
    peak = float(np.abs(waveform).max())
    gain = 1.0 if peak <= 1.0 else 0.999 / peak
    samples = np.round(waveform * gain * 32767.0).clip(-32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    kind, subtype = FORMATS[options.codec]
    with soundfile.SoundFile(buffer, "w", options.sample_rate, 1, subtype, format=kind) as file:
        for start in range(0, len(samples), options.sample_rate):  # one long write overflows the stack of libsndfile's Vorbis
            file.write(samples[start : start + options.sample_rate])
    record = {
        "source": item.source,
        "path": item.name,
        "license": item.license,
        "split": item.split,
        "original_sample_rate": rate,
        "original_channels": channels,
        "offset_seconds": round(offset_seconds, 6),
        "seconds": round(len(samples) / options.sample_rate, 6),
    }
    if gain != 1.0:
        record["gain"] = gain
    return PackedClip(clip_key(item, piece), options.codec, buffer.getvalue(), record, hashlib.sha1(samples.tobytes()).hexdigest())


def clip_key(item: Item, piece: int) -> str:
    """Return a key without dots, unique to the file's place in its source and the piece."""
    stem = re.sub(r"[^a-z0-9]+", "-", item.name.rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()).strip("-")[:32] or "clip"
    place = f"{item.source}\0{item.name}\0{item.split}" + (f"\0{item.copy}" if item.copy else "")
    digest = hashlib.sha1(place.encode()).hexdigest()[:12]
    return f"{stem}-{digest}-{piece:04d}"
