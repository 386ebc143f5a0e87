"""Read lists of recordings, from which strokes and voices are cut, and remove silence.

A list is a JSON Lines file; each line is an object with the strings path, license and source, as `hear_ssl.data.pack` reads it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_ssl.synthesis.parameter_space import Array

FIELDS = ("path", "license", "source")


@dataclass(frozen=True)
class Recording:
    """An audio file with its licence and the name of the collection that it comes from."""

    path: str
    license: str
    source: str


def read_list(file: str) -> list[Recording]:
    """Return the recordings of a JSON Lines list; none for an empty name.

    Raises ValueError when there is no such file or a line is not an object with path, license and source.
    """
    if not file:
        return []
    if not Path(file).is_file():
        raise ValueError(f"{file} is not a file; give a JSON Lines list with path, license and source on each line")
    return [_parse(line, f"{file}, line {number}") for number, line in enumerate(Path(file).read_text().splitlines(), 1)]


def _parse(line: str, position: str) -> Recording:
    try:
        fields = json.loads(line)
        return Recording(*(str(fields[name]) for name in FIELDS))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        example = '{"path": "kick1.wav", "license": "CC0-1.0", "source": "drums"}'
        raise ValueError(f"{position} is {line[:60]!r}; each line must be an object such as {example}") from None


def trim_silence(waveform: Array, threshold: float) -> Array:
    """Return a waveform from the first to the last sample above `threshold` times its peak; empty for silence (time,)."""
    audible = np.nonzero(np.abs(waveform) > threshold * np.abs(waveform).max(initial=0.0))[0]
    return waveform[audible[0] : audible[-1] + 1] if len(audible) else waveform[:0]
