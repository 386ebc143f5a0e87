"""Sounds of a folder in memory: background noise, or impulse responses of rooms.

They are decoded by `hear_ssl.model.audio_file`, mixed to mono and resampled. Archives and shards are not read.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_ssl.addresses import redacted_text
from hear_ssl.model.audio_file import streams
from hear_ssl.test_data_rule import RULE, marked_folder
from hear_ssl.views.resampled import resampled

LARGEST_RATIO = 5000  # of two sample rates: the size of the resampling kernel is its square
SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")


def sound_files(folder: str) -> list[str]:
    """Return the audio files below a folder, relative to it, in an order that depends only on their names and mixes subfolders.

    Raises ValueError when there is no such folder, when it has no audio file, or when a file is in a folder marked as test data.
    """
    shown = f"folder {redacted_text(folder)}"
    if "://" in folder:
        raise ValueError(f"{shown} is an address; give a folder of this machine")
    if not os.path.isdir(folder):
        raise ValueError(f"{shown} {'is not a folder' if os.path.exists(folder) else 'does not exist'}; give a folder with audio files")
    root = Path(folder)
    found = [
        (Path(place) / name).relative_to(root).as_posix()
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    if not found:
        raise ValueError(f"{shown} has no audio file; give a folder with files that end in {', '.join(SUFFIXES)}")
    below = {part for name in found for part in Path(name).parts[:-1]}
    if marked := next(filter(None, map(marked_folder, [root.name, *sorted(below)])), ""):
        raise ValueError(f"{shown}: {marked} is {RULE}; give a folder without it")
    return sorted(found, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())


def read_sound(path: Path, sample_rate: int, most_seconds: float) -> Tensor:
    """Return up to `most_seconds` of an audio file at a sample rate (Hz), mono, float32 (samples,).

    Raises ValueError that names the file when it cannot be decoded, or is empty, silent or not finite.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            sound, rate = _decoded(content, most_seconds)
        if max(rate, sample_rate) // math.gcd(rate, sample_rate) > LARGEST_RATIO:
            raise ValueError(f"its sample rate of {rate} Hz is in no simple ratio to {sample_rate} Hz")
    except (ValueError, OSError, RuntimeError, MemoryError) as error:  # soundfile's errors are RuntimeErrors
        raise ValueError(f"{path} cannot be read as audio ({' '.join(str(error).split())[:120]}); remove it from the folder") from None
    sound = resampled(sound, rate, sample_rate)
    if not bool(torch.isfinite(sound).all()) or not bool(sound.any()):
        raise ValueError(f"{path} is empty, silent or not finite; remove it from the folder")
    return sound


def _decoded(content: Any, most_seconds: float) -> tuple[Tensor, int]:
    """Return the beginning of the first stream of an encoded file, mono (samples,), and its sample rate."""
    stream, blocks, count = streams(content)[0], [], 0
    for block in stream.blocks():
        blocks.append(torch.from_numpy(block).mean(1))
        count += len(block)
        if count >= most_seconds * stream.rate:
            break
    return torch.cat(blocks)[: round(most_seconds * stream.rate)], stream.rate


def read_folder(folder: str, sample_rate: int, most_seconds: float, most_of_one: float) -> tuple[list[Tensor], str]:
    """Return the sounds of a folder, up to `most_of_one` seconds each and `most_seconds` in sum, and a line about them.

    Raises what `sound_files` and `read_sound` raise.
    """
    files, sounds, seconds = sound_files(folder), list[Tensor](), 0.0
    for name in files:
        if seconds >= most_seconds:
            break
        sounds.append(read_sound(Path(folder) / name, sample_rate, min(most_of_one, most_seconds - seconds)))
        seconds += len(sounds[-1]) / sample_rate
    return sounds, f"{seconds:.1f} s from {len(sounds)} of {len(files)} files in {folder}"


class Sounds(nn.Module):
    """Concatenated sounds in memory, from which segments are drawn.

    A checkpoint does not contain them, but it contains their fingerprint, so that a run does not resume with other sounds.
    """

    fingerprint: Tensor

    def __init__(self, sounds: list[Tensor], folder: str) -> None:
        """Store sounds (samples,); `folder` is named in errors."""
        super().__init__()
        self.folder, lengths = folder, torch.tensor([len(sound) for sound in sounds])
        samples = torch.cat(sounds)
        # no buffers: a process group would send them to all ranks at every step
        self.copies = {torch.device("cpu"): (samples, lengths.cumsum(0) - lengths, lengths)}
        digest = hashlib.sha256(samples.numpy().tobytes() + lengths.numpy().tobytes()).digest()
        self.register_buffer("fingerprint", torch.tensor(int.from_bytes(digest[:8], "little", signed=True)))
        self.longest = int(lengths.max())

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the samples of all sounds (samples,), their starts and their lengths (sounds,), on a device."""
        if device not in self.copies:
            samples, starts, lengths = self.copies[torch.device("cpu")]
            self.copies[device] = samples.to(device), starts.to(device), lengths.to(device)
        return self.copies[device]

    def segments(self, chosen: Tensor, share: Tensor, samples: int) -> Tensor:
        """Return a segment (batch, samples) of each chosen sound (batch, 1), which is repeated if it is shorter.

        share: (batch, 1), relative start of the segment: 0 is the start of the sound, 1 the last position where the segment fits.
        """
        everything, starts, lengths = self.on(chosen.device)
        length = lengths[chosen]
        first = (share * ((length - samples).clamp(min=0) + 1)).long()
        return everything[starts[chosen] + (first + torch.arange(samples, device=chosen.device)) % length]

    def beginnings(self, chosen: Tensor, samples: int) -> Tensor:
        """Return the beginning (batch, samples) of each chosen sound (batch, 1), padded with silence if it is shorter."""
        everything, starts, lengths = self.on(chosen.device)
        place = torch.arange(samples, device=chosen.device)
        found = everything[(starts[chosen] + place).clamp(max=len(everything) - 1)]
        return torch.where(place < lengths[chosen], found, 0.0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **options: Any) -> None:
        before = state_dict.get(f"{prefix}fingerprint")
        if before is not None and int(before) != int(self.fingerprint):
            raise ValueError(f"{self.folder} has other sounds than when the run started; restore them, or start a new run")
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)
