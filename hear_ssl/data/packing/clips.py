"""Convert an audio file to clips: decode, mix to mono, resample, check, encode. Runs in worker processes.

A recording longer than the limit is cut into pieces of equal length, so that the last one is not short. Each piece is resampled
separately (soxr HQ). If the length stated by the header turns out to be wrong, the recording is cut again by its real length. At most
one hour of clips is in memory: a longer recording is decoded once to count its samples, and again to yield its clips.
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
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from hear_ssl.data.decoder_messages import without_decoder_messages
from hear_ssl.data.packing.archives import read_item
from hear_ssl.data.packing.file_streams import WINDOW, blocks, file_streams
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.stream.decode import Waveform, decoder_reason
from hear_ssl.model.audio_file import Stream

SILENT_PEAK = 1e-4
WHOLE_SECONDS = 3600.0  # longest recording whose clips are all in memory, about 60 MB of FLAC
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's frame count when the header states none
LOUDEST = 2.0**31  # largest value when 32-bit integers were stored as floats; larger values are not audio
FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "ogg": ("OGG", "VORBIS")}


@dataclass(frozen=True)
class PackOptions:
    """The format of clips: sample rate in Hz, codec, shortest and longest clip in seconds."""

    sample_rate: int = 16000
    codec: str = "flac"
    min_seconds: float = 0.1
    max_seconds: float = 30.0


@dataclass(frozen=True)
class PackedClip(EncodedClip):
    """An encoded clip for a shard, and the hash of its decoded audio."""

    audio_hash: str


class Rejected(NamedTuple):
    """A piece of a file that is not packed: its offset in seconds, and the reason."""

    offset_seconds: float
    reason: str


Outcome = PackedClip | Rejected


@dataclass
class Packed:
    """The outcomes of a file's pieces, or of consecutive ones; `more`: whether others follow."""

    outcomes: list[Outcome] = field(default_factory=list)
    more: bool = False

    @property
    def clips(self) -> list[PackedClip]:
        """The pieces to pack."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, PackedClip)]

    @property
    def rejected(self) -> list[Rejected]:
        """The pieces that cannot be used."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Rejected)]


@without_decoder_messages()
def pack_item(item: Item, options: PackOptions) -> Packed:
    """Return the outcomes of a file, perhaps none yet for one longer than `WHOLE_SECONDS`; never raises for a bad file."""
    packed, seconds = Packed(), 0.0
    for outcome in outcomes(item, options):
        seconds += outcome.record["seconds"] if isinstance(outcome, PackedClip) else 0.0
        if outcome is None or seconds > WHOLE_SECONDS:
            return Packed(packed.outcomes, more=True)
        packed.outcomes.append(outcome)
    return packed


def outcomes(item: Item, options: PackOptions, first: int = 0) -> Iterator[Outcome | None]:
    """Yield the outcome of each piece of a file while reading it; pieces before number `first` are only decoded.

    None announces a stream whose clips are too long to be all in memory. Never raises for a bad file.
    """
    cutter = Cutter(item, options, first)
    if item.refused:
        yield from cutter.one(0.0, item.refused)
        return
    try:
        for stream in file_streams(_content(item)):
            yield from cutter.cut(stream)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError, TypeError) as error:
        yield from cutter.one(0.0, f"unreadable: {decoder_reason(error)[:120]}")


def _content(item: Item) -> bytes | mmap.mmap:
    """Return the encoded bytes of a file; a large file outside of archives is memory-mapped. Raises ValueError when it is empty."""
    if item.archive:
        content = read_item(item)
        if not content:
            raise ValueError("holds 0 bytes")
        return content
    with open(os.fsencode(item.path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ValueError("holds 0 bytes")
        if size <= WINDOW:  # truncating a mapped file would kill the process
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Cutter:
    """Cut the streams of one file, one after another, into equal pieces; leave out the first outcomes."""

    def __init__(self, item: Item, options: PackOptions, first: int) -> None:
        self.item, self.options, self.first = item, options, first
        self.offset_seconds, self.number, self.done = 0.0, 0, 0  # of the next stream: its start, the number of its first piece; outcomes

    def one(self, offset_seconds: float, reason: str) -> Iterator[Outcome]:
        """Yield one rejection, unless it is left out."""
        self.done += 1
        if self.done > self.first:
            yield Rejected(round(offset_seconds, 6), reason)

    def cut(self, stream: Stream) -> Iterator[Outcome | None]:
        """Yield the outcomes of the next stream, and None before a long one. Raises what decoding raises.

        Pieces are kept until the real length of the stream is known. If it is long, or its header states no length, its samples are
        counted first.
        """
        frames = stated_frames(stream)
        limit = WHOLE_SECONDS * stream.rate
        if 0 < frames <= limit:
            held = list(self._pieces(stream, frames))
            if stream.count == frames:
                yield from self._ended(stream, frames, iter(held))
                return
            frames = stream.count
        else:
            if frames:
                yield None
            frames = sum(len(block) for block in blocks(stream))
        if frames > limit:
            yield None
        yield from self._ended(stream, frames, self._pieces(stream, frames))

    def _ended(self, stream: Stream, frames: int, pieces: Iterator[Outcome | None]) -> Iterator[Outcome]:
        """Yield the pieces of a stream of `frames` frames, unless it is too short, and a rejection if its end is missing."""
        seconds = frames / stream.rate
        if not frames and not stream.loss:
            yield from self.one(self.offset_seconds, "empty")
        elif frames and seconds < self.options.min_seconds:
            yield from self.one(self.offset_seconds, f"too short: {seconds:.3f} s")
        else:
            for outcome in pieces:
                self.done, self.number = self.done + 1, self.number + 1
                if outcome is not None:
                    yield outcome
        self.offset_seconds += seconds
        if stream.loss:
            yield from self.one(self.offset_seconds, f"unreadable: {stream.loss}")

    def _pieces(self, stream: Stream, frames: int) -> Iterator[Outcome | None]:
        """Yield the outcome of each equal piece of a stream, assuming that it has `frames` frames; None for those left out."""
        with stream.open():
            pieces = max(1, math.ceil(frames / (self.options.max_seconds * stream.rate)))
        first, number = self.first - self.done, self.number
        for piece, mono in enumerate(equal_pieces(stream, frames, pieces)):
            seconds = self.offset_seconds + frames * piece // pieces / stream.rate
            yield self._piece(stream, mono, seconds, number + piece) if piece >= first else None

    def _piece(self, stream: Stream, mono: Waveform, seconds: float, number: int) -> Outcome:
        rate = self.options.sample_rate
        waveform = mono if stream.rate == rate else soxr.resample(mono, stream.rate, rate, quality="HQ")
        reason = unfit(mono) or unfit(waveform)  # resampling may overflow, or remove all sound above half the new rate
        if reason:
            return Rejected(round(seconds, 6), reason)
        return _clip(self.item, waveform, (stream.rate, stream.channels, seconds), number, self.options)


def stated_frames(stream: Stream) -> int:
    """Return the frame count that a stream states; 0 when it states none, or when libsndfile estimates it from the size."""
    with stream.open() as sound:
        frames = int(sound.frames)
    return stream.frames if stream.frames or stream.claimed > stream.bytes else frames % UNKNOWN_LENGTH


def equal_pieces(stream: Stream, frames: int, pieces: int) -> Iterator[Waveform]:
    """Yield the equal pieces (time,) of a stream of `frames` frames, as far as it decodes; frames after them are only counted."""
    piece, start, parts = 1, 0, [np.empty(0, np.float32)]
    for block in blocks(stream):
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
    """Return why a waveform (time,) is unfit for training (non-finite, silent or of an impossible level), or '' when it is fit."""
    if not len(waveform):
        return "empty"
    if not np.isfinite(waveform).all():
        return "non-finite"
    low, high = float(waveform.min()), float(waveform.max())
    peak = max(high, -low)
    if high - low < SILENT_PEAK or peak < SILENT_PEAK:  # a constant counts as silence
        return "silent"
    if peak > LOUDEST:
        return f"implausible level: a peak of {peak:.3g}"
    if peak > 1.0:  # then the clip is scaled down before it is stored with 16 bits
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
        for start in range(0, len(samples), options.sample_rate):  # a single long write overflows the stack in libsndfile's Vorbis
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
    """Return a key without dots, unique for the file in its source and the piece."""
    stem = re.sub(r"[^a-z0-9]+", "-", item.name.rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()).strip("-")[:32] or "clip"
    place = f"{item.source}\0{item.name}\0{item.split}" + (f"\0{item.copy}" if item.copy else "")
    digest = hashlib.sha1(place.encode()).hexdigest()[:12]
    return f"{stem}-{digest}-{piece:04d}"
