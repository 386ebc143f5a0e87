"""Simulate how a sound is recorded: room, microphone and filters, saturation, noise, level.

`record` draws every parameter independently for each clip, so the two clips of a pair share none of them; `stroke_pairs` and
`spoken_pairs` use it.
The chain of the instruments, `scene.render`, has no filters after the room and gets its parameters from the parameter vector.

The room is Gaussian noise with an exponential decay (Polack, "La transmission de l'énergie sonore dans les salles", 1988); the
filters are the magnitude responses of Butterworth filters and of a resonance, applied without phase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hear_ssl.synthesis.engines import LN_60_DB, SAMPLE_RATE, bandpass, interpolate_log, normalise_peak
from hear_ssl.synthesis.parameter_space import Array

TAIL_SECONDS = 0.8
DECAY_SECONDS = (0.05, 1.2)
LOWEST_HZ = 20.0  # below it the filters are constant, so that they have no pole at 0 Hz
DB_PER_DOUBLING = 6.02  # 20 log10(2)


@dataclass(frozen=True)
class Filters:
    """The spectral colour of a recording; no low-pass or no high-pass filter where its frequency is None."""

    resonance_hz: float
    tilt_db: float  # per octave, 0 dB at 1 kHz
    resonance_db: float  # gain at the resonance, whose quality factor is 1
    lowpass_hz: float | None  # -3 dB there, -18 dB per octave above
    highpass_hz: float | None  # -3 dB there, -12 dB per octave below

    def response(self, hertz: Array) -> Array:
        """Return the magnitude response at frequencies in Hz, above 0 (bins,)."""
        resonance = bandpass(hertz, self.resonance_hz, 1.0)
        response = (hertz / 1000.0) ** (self.tilt_db / DB_PER_DOUBLING) * 10.0 ** (self.resonance_db / 20.0 * resonance)
        if self.lowpass_hz is not None:
            response = response / np.sqrt(1.0 + (hertz / self.lowpass_hz) ** 6)
        if self.highpass_hz is not None:
            response = response / np.sqrt(1.0 + (self.highpass_hz / hertz) ** 4)
        return np.asarray(response)


def draw_filters(rng: np.random.Generator) -> Filters:
    """Draw the filters of a recording: 3 in 10 have a low-pass filter, 3 in 10 a high-pass filter."""
    return Filters(
        resonance_hz=interpolate_log((80.0, 6000.0), rng.random()),
        tilt_db=rng.uniform(-3.0, 3.0),
        resonance_db=rng.uniform(-9.0, 9.0),
        lowpass_hz=rng.uniform(2500.0, 7000.0) if rng.random() < 0.3 else None,
        highpass_hz=rng.uniform(30.0, 120.0) if rng.random() < 0.3 else None,
    )


def room_tail(noise: Array, decay_seconds: float) -> Array:
    """Return white noise that falls by 60 dB in `decay_seconds`, the reverberation of a room (time,)."""
    time = np.arange(len(noise)) / SAMPLE_RATE
    return np.asarray(noise * np.exp(-LN_60_DB / decay_seconds * time))


def saturate(waveform: Array, drive_db: float) -> Array:
    """Return a waveform of peak 1 through tanh with a gain of `drive_db` before it; its peak stays 1 (time,)."""
    drive = 10.0 ** (drive_db / 20.0)
    return np.asarray(np.tanh(drive * waveform) / np.tanh(drive))


def coloured_noise(white: Array, exponent: float, samples: int) -> Array:
    """Return noise of peak 1 whose amplitude spectrum falls as frequency ** -exponent: 0 white, 0.5 pink (samples,)."""
    hertz = np.maximum(np.fft.rfftfreq(len(white), 1.0 / SAMPLE_RATE), LOWEST_HZ)
    return normalise_peak(np.fft.irfft(np.fft.rfft(white) * hertz**-exponent, len(white))[:samples])


def record(dry: Array, rng: np.random.Generator) -> Array:
    """Return a sound as recorded with a room, filters, saturation, noise and a level that are drawn here, float32 (time,).

    Reverberant energy: -40 to -4 dB of the direct sound. Saturation: a drive of -12 to 12 dB. Noise: a peak of -75 to -18 dB of
    the sound's. The peak of the result is 0.1 to 0.9. The same generator state gives the same samples.
    """
    noise = rng.standard_normal(round(TAIL_SECONDS * SAMPLE_RATE))
    tail = room_tail(noise, interpolate_log(DECAY_SECONDS, rng.random()))
    wet = 10.0 ** (rng.uniform(-40.0, -4.0) / 20.0) / np.sqrt(np.sum(tail**2))
    length = 2 ** int(np.ceil(np.log2(len(dry) + len(tail))))  # of the linear convolution with the tail
    hertz = np.maximum(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), LOWEST_HZ)
    filters = draw_filters(rng).response(hertz)
    spectrum = np.fft.rfft(dry, length) * (1.0 + wet * np.fft.rfft(tail, length)) * filters
    sound = normalise_peak(np.fft.irfft(spectrum, length)[: len(dry)])
    sound = saturate(sound, rng.uniform(-12.0, 12.0))
    noise = coloured_noise(rng.standard_normal(length), rng.uniform(0.0, 0.5), len(dry))
    sound = sound + noise * 10.0 ** (rng.uniform(-75.0, -18.0) / 20.0)
    return np.asarray(normalise_peak(sound) * rng.uniform(0.1, 0.9), dtype=np.float32)
