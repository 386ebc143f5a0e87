"""Files as recorders, pipes and downloads leave them: sizes that are wrong or unknown, several files in one, cut ends.

Each is made of what soundfile writes, by changing bytes where the formats keep their lengths.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.data.sounds import encoded, of_length

RATE = 16000
FRAMES = 3 * RATE + 123


@dataclass(frozen=True)
class HardFile:
    """A file and how many samples of `twice()` lie in it, how far they may be off, and whether some are missing (loss)."""

    suffix: str
    content: bytes
    frames: int = FRAMES
    loss: bool = False
    tolerance: float = 2e-4


def sound(frames: int = FRAMES, channels: int = 1) -> NDArray[np.float32]:
    """Return noise (frames,) or (frames, channels) that becomes louder, so that frames of MPEG differ in size."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (frames, channels)) * np.linspace(0.02, 1.0, frames)[:, None]
    return noise[:, 0].astype(np.float32) if channels == 1 else noise.astype(np.float32)


def twice() -> NDArray[np.float32]:
    """Return what lies in files that were joined (2 * FRAMES,): the sound, and the sound backwards."""
    return np.concatenate([sound(), sound()[::-1]])


def put(content: bytes, place: int, form: str, value: int) -> bytes:
    """Return a file with a number replaced."""
    return content[:place] + struct.pack(form, value) + content[place + struct.calcsize(form) :]


def without_xing(mp3: bytes) -> bytes:
    """Return an MP3 file without the frame that states its length."""
    mark = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    start = next(mark - distance for distance in (36, 21, 13) if mp3[mark - distance] == 255)
    return mp3[mp3.find(mp3[start : start + 2], mark + 120) :]


def hard_files() -> dict[str, HardFile]:
    """Return one file of each kind by name."""
    wav, aiff, flac = (encoded(sound(), RATE, kind, "PCM_16") for kind in ("WAV", "AIFF", "FLAC"))
    au, caf, w64, rf64 = (encoded(sound(), RATE, kind, "PCM_16") for kind in ("AU", "CAF", "W64", "RF64"))
    again = {kind: encoded(sound()[::-1], RATE, kind) for kind in ("WAV", "AIFF", "FLAC", "OGG", "MP3")}
    ogg, mp3 = encoded(sound(), RATE, "OGG", "VORBIS"), encoded(sound(), RATE, "MP3")
    data, ssnd = wav.index(b"data") + 4, aiff.index(b"SSND") + 4
    in_caf, in_w64, ds64 = caf.index(b"data") + 4, w64.index(b"data") + 16, rf64.index(b"ds64") + 16
    size = 2 * FRAMES
    sizes = {"0": 0, "odd": size - 1, "small": 9000, "placeholder": 0xFFFFFFFF, "unfinished": 0x7FFFF000}
    files = {f"wav of size {name}": HardFile("wav", put(wav, data, "<I", value)) for name, value in sizes.items()}
    files |= {f"aiff of size {name}": HardFile("aiff", put(aiff, ssnd, ">I", value)) for name, value in sizes.items()}
    files |= {f"au of size {name}": HardFile("au", put(au, 8, ">I", value)) for name, value in sizes.items()}
    files |= {f"caf of size {value}": HardFile("caf", put(caf, in_caf, ">q", value)) for value in (0, 9004, -1)}
    files |= {f"w64 of size {value}": HardFile("w64", put(w64, in_w64, "<Q", value)) for value in (0, 9024, 2**63 - 1, 2**64 - 1)}
    files |= {f"rf64 of size {value}": HardFile("rf64", put(rf64, ds64, "<Q", value)) for value in (0, 9000, 2**40)}
    files |= {f"flac of {total}": HardFile("flac", of_length(flac, total)) for total in (0, 1, 9000, FRAMES + 1, 2**36 - 1)}
    files |= {
        "wav of a chunk more": HardFile("wav", wav + b"LIST\4\0\0\0abcd"),
        "wav of 8 bits and a chunk more": HardFile("wav", encoded(sound(), RATE, "WAV", "PCM_U8") + b"LIST\4\0\0\0abcd", tolerance=0.01),
        "wav and wav": HardFile("wav", wav + again["WAV"], 2 * FRAMES),
        "aiff and aiff": HardFile("aiff", aiff + again["AIFF"], 2 * FRAMES),
        "flac and flac": HardFile("flac", flac + again["FLAC"], 2 * FRAMES),
        "flac and a tag": HardFile("flac", flac + b"TAG" + bytes(125)),
        "tag and flac": HardFile("flac", b"ID3\3\0\0\0\0\0\x0a0123456789" + of_length(flac, 0)),
        "ogg and ogg": HardFile("ogg", ogg + again["OGG"], 2 * FRAMES),
        "mp3 and mp3": HardFile("mp3", mp3 + again["MP3"], 2 * FRAMES),
        "wav cut": HardFile("wav", wav[: 44 + 2 * RATE], RATE, True),
        "flac cut": HardFile("flac", flac[: len(flac) // 2], 6 * 4096, True),
        "mp3 cut": HardFile("mp3", mp3[: len(mp3) * 6 // 10], 50 * 576, True),
    }
    for mode in ("CONSTANT", "VARIABLE", "AVERAGE"):
        files[f"mp3 without xing, {mode}"] = HardFile("mp3", without_xing(mpeg(mode)), 86 * 576)
    files["mp3 from within a frame"] = HardFile("mp3", without_xing(mpeg("VARIABLE"))[50:], 85 * 576)
    return files


def mpeg(mode: str) -> bytes:
    """Return an MP3 file of constant, variable or average bit rate."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=0.2) as file:
        file.write(sound())
    return buffer.getvalue()
