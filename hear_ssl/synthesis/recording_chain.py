"""What lies between a sound and its recording, drawn anew for each clip of `stroke_pairs.py` and `spoken_pairs.py`.

More is drawn than `hear_ssl.synthesis.scene` does for its instruments: a filter and a saturation beside room, tilt and noise.
"""

from __future__ import annotations

import numpy as np

from hear_ssl.synthesis.engines import LN_60_DB, bandpass
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.strokes import RATE, at_peak, between


def recorded(dry: Array, rng: np.random.Generator) -> Array:
    """Return a sound in a room, filtered, saturated, with noise and at a level, all drawn anew (time,)."""
    time = np.arange(round(0.8 * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * np.exp(-LN_60_DB / between((0.05, 1.2), rng.random()) * time)
    length = 2 ** int(np.ceil(np.log2(len(dry) + len(tail))))
    hertz = np.maximum(np.fft.rfftfreq(length, 1.0 / RATE), 20.0)
    wet = 10.0 ** (rng.uniform(-40.0, -4.0) / 20.0) / np.sqrt(np.sum(tail**2))
    bump = bandpass(hertz, between((80.0, 6000.0), rng.random()), 1.0)
    filters = (hertz / 1000.0) ** (rng.uniform(-3.0, 3.0) / 6.02) * 10.0 ** (rng.uniform(-9.0, 9.0) / 20.0 * bump)
    if rng.random() < 0.3:
        filters = filters / np.sqrt(1.0 + (hertz / rng.uniform(2500.0, 7000.0)) ** 6)
    if rng.random() < 0.3:
        filters = filters / np.sqrt(1.0 + (rng.uniform(30.0, 120.0) / hertz) ** 4)
    sound = np.fft.irfft(np.fft.rfft(dry, length) * (1.0 + wet * np.fft.rfft(tail, length)) * filters, length)[: len(dry)]
    sound = at_peak(sound)
    drive = 10.0 ** (rng.uniform(-12.0, 12.0) / 20.0)
    sound = np.tanh(drive * sound) / np.tanh(drive)
    white = np.fft.rfft(rng.standard_normal(length)) * hertz ** -rng.uniform(0.0, 0.5)
    noise = np.fft.irfft(white, length)[: len(dry)]
    sound = sound + at_peak(noise) * 10.0 ** (rng.uniform(-75.0, -18.0) / 20.0)
    return np.asarray(at_peak(sound) * rng.uniform(0.1, 0.9), dtype=np.float32)
