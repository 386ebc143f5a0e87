"""Building blocks of rendered sounds: harmonic tones, shaped noise, damped modes, envelopes, resonances.

Everything is vectorised over samples and computed frame by frame (one frame every 16 ms) if a spectrum changes over time:
- a harmonic tone reads one-period wavetables, the inverse FFT of its harmonics, so that it is band-limited by construction;
- filtered noise is drawn in the frequency domain, frame by frame, and overlap-added with sine windows, whose squares sum to one;
- damped modes are one matrix product: exp(z (a B + b)) = exp(z a B) exp(z b) for the complex frequency z of each mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hear_ssl.synthesis.parameter_space import Array

SAMPLE_RATE = 16000  # of strokes, words and tasks; instruments have an option for it
HOP_SECONDS = 0.016
LN_60_DB = float(np.log(1000.0))
MODE_BLOCK = 256


def frame_hop(sample_rate: int) -> int:
    """Return the number of samples between two frames."""
    return round(HOP_SECONDS * sample_rate)


def frame_times(samples: int, sample_rate: int) -> Array:
    """Return the times in seconds of the frames that cover `samples` (frames,); the last one lies past the end."""
    hop = frame_hop(sample_rate)
    return np.asarray(np.arange((samples - 1) // hop + 2) * hop / sample_rate)


def fast_length(samples: int) -> int:
    """Return the smallest length >= samples of the form {1, 3, 5, 9, 15, 27} 2^k, for which the FFT is fast."""
    return min(odd << max(0, int(np.ceil(np.log2(samples / odd)))) for odd in (1, 3, 5, 9, 15, 27))


def normalise_peak(waveform: Array) -> Array:
    """Return a waveform scaled to a peak of 1; silence stays silent (time,)."""
    return np.asarray(waveform / max(float(np.abs(waveform).max()), 1e-6))


def interpolate_log(span: tuple[float, float], position: float) -> float:
    """Return the value at `position`, 0 to 1, of a span (low, high) on a logarithmic scale."""
    return float(span[0] * (span[1] / span[0]) ** position)


def envelope(time: Array, attack: float, decay: float, sustain: float, hold: float, release: float) -> Array:
    """Return an ADSR envelope over `time` in seconds (time,).

    Linear rise over `attack` seconds, exponential fall towards `sustain` (the distance to it shrinks by 60 dB in `decay` seconds), and
    after `hold` seconds a fall of 60 dB every `release` seconds.
    """
    rise = np.minimum(time / max(attack, 1e-4), 1.0)
    fall = sustain + (1.0 - sustain) * np.exp(np.maximum(time - attack, 0.0) * (-LN_60_DB / max(decay, 1e-4)))
    return np.asarray(rise * fall * np.exp(np.maximum(time - hold, 0.0) * (-LN_60_DB / max(release, 1e-4))), dtype=np.float32)


def lowpass(frequencies: Array, cutoff: Array | float, resonance: float) -> Array:
    """Return the magnitude response of a two-pole low-pass with quality factor `resonance`: 12 dB per octave above `cutoff`."""
    ratio = frequencies / cutoff
    return np.asarray(1.0 / np.sqrt((1.0 - ratio**2) ** 2 + (ratio / resonance) ** 2 + 1e-6))


def bandpass(frequencies: Array, center: Array | float, quality: float) -> Array:
    """Return the magnitude response of a resonance: 1 at `center`, 3 dB less at a distance of center / (2 quality)."""
    ratio = np.maximum(frequencies, 1.0) / center
    return np.asarray(1.0 / np.sqrt(1.0 + (quality * (ratio - 1.0 / ratio)) ** 2))


def harmonic_tone(
    frequency: Array, amplitudes: Array, sample_rate: int, detune: Sequence[float] = (1.0,), phases: Array | float = 0.0
) -> Array:
    """Return a tone whose m-th harmonic has amplitudes[frame, m - 1] (time,).

    `frequency` (time,) is the fundamental in Hz; `amplitudes` is (frames, harmonics) at `frame_times`; `detune` lists
    frequency ratios of copies that are summed; `phases` (harmonics,) in radians. Harmonics above 0.47 of the sample rate are left out.
    """
    hop = frame_hop(sample_rate)
    frames, harmonics = amplitudes.shape
    highest = np.append(frequency[::hop], frequency[-1])[:frames, None] * max(detune)
    audible = np.arange(1, harmonics + 1) * highest < 0.47 * sample_rate  # (frames, harmonics)
    harmonics = max(1, int(np.count_nonzero(audible.any(axis=0))))
    size = max(64, 2 ** int(np.ceil(np.log2(6 * harmonics))))
    spectra = np.zeros((frames, size // 2 + 1), dtype=np.complex64)
    phasors = np.broadcast_to(np.exp(1j * np.asarray(phases)), amplitudes.shape[1:])[:harmonics]
    spectra[:, 1 : harmonics + 1] = (amplitudes * audible)[:, :harmonics] * phasors * (-0.5j * size)
    tables = np.fft.irfft(spectra, n=size, axis=1).astype(np.float32)
    tables = np.concatenate([tables, tables[:, :1]], axis=1)  # (frames, size + 1): the last sample wraps around
    cycles = np.cumsum(frequency, dtype=np.float64) / sample_rate
    return np.asarray(sum(_read_tables(tables, cycles * ratio, hop) for ratio in detune), dtype=np.float32)


def _read_tables(tables: Array, cycles: Array, hop: int) -> Array:
    """Read wavetables (frames, size + 1) at `cycles` (time,), linearly between samples and between frames."""
    size = tables.shape[1] - 1
    position = np.mod(cycles, 1.0) * size
    sample = np.minimum(position.astype(np.int64), size - 1)
    between_samples = (position - sample).astype(np.float32)
    time = np.arange(len(cycles))
    frame = time // hop
    between_frames = (time - frame * hop).astype(np.float32) / np.float32(hop)
    flat = tables.reshape(-1)
    index = frame * (size + 1) + sample
    now = flat[index] + between_samples * (flat[index + 1] - flat[index])
    index += size + 1
    later = flat[index] + between_samples * (flat[index + 1] - flat[index])
    return np.asarray(now + between_frames * (later - now))


def noise_frequencies(sample_rate: int) -> Array:
    """Return the frequencies in Hz of the bins of `shaped_noise` (bins,)."""
    hop = frame_hop(sample_rate)
    return np.asarray(np.arange(hop + 1) * (sample_rate / (2 * hop)))


def shaped_noise(response: Array, samples: int, sample_rate: int, rng: np.random.Generator) -> Array:
    """Return Gaussian noise with the magnitude response (frames, bins), frames at `frame_times` (samples,).

    A response of ones gives white noise of standard deviation 1.
    """
    hop = frame_hop(sample_rate)
    frames, bins = response.shape
    noise = rng.standard_normal((frames, 2 * bins), dtype=np.float32).view(np.complex64)  # (frames, bins)
    grains = np.fft.irfft(noise * (response * np.sqrt(hop)).astype(np.float32), n=2 * hop, axis=1)
    grains = grains * np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
    # Frame f covers the samples from (f - 1) hop to (f + 1) hop: it is centred on its own time.
    total = np.concatenate([grains[:, hop:].reshape(-1), np.zeros(hop)])
    total[: (frames - 1) * hop] += grains[1:, :hop].reshape(-1)
    return np.asarray(total[:samples], dtype=np.float32)


def damped_modes(frequencies: Array, decay_seconds: Array, amplitudes: Array, phases: Array, samples: int, sample_rate: int) -> Array:
    """Return the sum of sinusoids that fall by 60 dB in `decay_seconds` each (samples,); all arguments are (modes,)."""
    audible = (frequencies < 0.48 * sample_rate) & (frequencies > 0)
    z = (-LN_60_DB / decay_seconds[audible] + 2j * np.pi * frequencies[audible]) / sample_rate  # (modes,)
    start = (amplitudes * np.exp(1j * (phases - np.pi / 2)))[audible]
    blocks = -(-samples // (2 * MODE_BLOCK)) * 2
    coarse = start * np.exp(np.arange(blocks)[:, None] * MODE_BLOCK * z)  # (blocks, modes)
    fine = np.exp(z[:, None] * np.arange(MODE_BLOCK))  # (modes, MODE_BLOCK)
    left = np.concatenate([coarse.real, -coarse.imag], axis=1).astype(np.float32)
    right = np.concatenate([fine.real, fine.imag], axis=0).astype(np.float32)
    # Two rows at a time: BLAS does not split so small a product among threads, whose number would change the last bit.
    return np.asarray((left.reshape(blocks // 2, 2, -1) @ right).reshape(-1)[:samples])
