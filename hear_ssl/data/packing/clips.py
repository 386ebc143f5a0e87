"""One audio file to clips: decode piece by piece, mix to mono, resample, check, encode. Runs in worker processes.

A recording longer than the limit is cut into equal pieces, so that no short rest is left over. Each piece is decoded
and resampled alone (soxr HQ), so memory does not grow with the recording.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from dataclasses import dataclass, field

import numpy as np
import soundfile
import soxr

from hear_ssl.data.packing.archives import read_item
from hear_ssl.data.packing.inputs import Item
from hear_ssl.data.packing.shard_writer import EncodedClip
from hear_ssl.data.stream.decode import Waveform, check_length, check_rate, decoder_reason

SILENT_PEAK = 1e-4
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
        with soundfile.SoundFile(io.BytesIO(read_item(item)) if item.archive else os.fsencode(item.path)) as file:
            _pack_pieces(item, file, options, packed)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError, TypeError) as error:
        packed.rejected.append((0.0, f"unreadable: {decoder_reason(error)[:120]}"))
    return packed


def _pack_pieces(item: Item, file: soundfile.SoundFile, options: PackOptions, packed: Packed) -> None:
    rate, frames = file.samplerate, file.frames
    if frames <= 0:
        packed.rejected.append((0.0, "empty"))
        return
    check_length(frames)
    check_rate(rate, file.channels)
    if frames / rate < options.min_seconds:
        packed.rejected.append((0.0, f"too short: {frames / rate:.3f} s"))
        return
    pieces = math.ceil(frames / (options.max_seconds * rate))
    for piece in range(pieces):
        first, last = frames * piece // pieces, frames * (piece + 1) // pieces
        file.seek(first)
        decoded = file.read(last - first, dtype="float32", always_2d=True)
        if len(decoded) < last - first:
            packed.rejected.append((round(first / rate, 6), f"unreadable: ends after {len(decoded)} of {last - first} samples"))
            continue
        mono = decoded.mean(axis=1)
        waveform = mono if rate == options.sample_rate else soxr.resample(mono, rate, options.sample_rate, quality="HQ")
        reason = unfit(mono) or unfit(waveform)  # a resampled one may overflow, or lack what lay above half the new rate
        if reason:
            packed.rejected.append((round(first / rate, 6), reason))
        else:
            packed.clips.append(_clip(item, waveform, (rate, file.channels, first / rate), piece, options))


def unfit(waveform: Waveform) -> str:
    """Return why a waveform (time,) must not be trained on: non-finite or silent; '' when it may."""
    if not np.isfinite(waveform).all():
        return "non-finite"
    return "silent" if float(np.abs(waveform).max()) < SILENT_PEAK else ""


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
