"""Stretch time without changing pitch, by a phase vocoder with phase locking of neighbouring bins.

Puckette, "Phase-locked vocoder" (1995): the phase of a bin advances within a hop as much as in the input, starting from the common phase
of the bin and its two neighbours in the previous frame. Without this, the phases of the bins of one partial diverge after every attack:
with torchaudio's `phase_vocoder`, a sine that is shifted up by an octave loses 7 dB and more. Phases are not unwrapped, so no angle is
computed.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

OVERLAP = 3  # the smallest overlap at which the squares of Hann windows sum to a constant
WINDOW_POWER = 0.375 * OVERLAP  # sum of the squares of Hann windows with this overlap
TINY = 1e-30  # product of three amplitudes below which the phase is undefined


def stretched(x: Tensor, factor: Fraction, hop: int) -> Tensor:
    """Return waveforms (batch, time) that are `factor` times as long, computed with windows of OVERLAP hops (samples)."""
    n_fft, samples = OVERLAP * hop, math.ceil(x.shape[-1] * factor)
    frames, lead = math.ceil(samples / hop) + 3, math.ceil(hop / factor)  # the first frame is one hop before the start
    window = torch.hann_window(n_fft, device=x.device)
    padded = F.pad(x, (n_fft // 2 + hop + lead, n_fft + 2 * lead))
    centres = torch.tensor([round((number - 1) * hop / factor) for number in range(frames)], device=x.device)  # in x
    places = lead + centres.unsqueeze(1) + torch.arange(n_fft, device=x.device)  # in padded, a hop before each frame
    before, present = (torch.fft.rfft(padded[:, places + shift] * window) for shift in (0, hop))  # (batch, frames, bins)
    amplitude, advance = present.abs(), present * together(before).conj()
    result = [present[:, 0]]
    for number in range(1, frames):
        phase = together(result[-1]) * advance[:, number]
        size = phase.abs()
        result.append(torch.where(size > TINY, phase * (amplitude[:, number] / size.clamp(min=TINY)), present[:, number]))
    segments = torch.fft.irfft(torch.stack(result, 1), n_fft) * (window / WINDOW_POWER)  # (batch, frames, n_fft)
    first = n_fft // 2 + hop
    return overlapped(segments)[:, first : first + samples]


def together(spectrum: Tensor) -> Tensor:
    """Return bins (..., bins) minus their neighbours, since a Hann window gives neighbouring bins of a partial alternating signs."""
    below, above = F.pad(spectrum[..., :-1], (1, 0)), F.pad(spectrum[..., 1:], (0, 1))
    return spectrum - below - above


def overlapped(segments: Tensor) -> Tensor:
    """Return the overlap-add (batch, time) of segments (batch, frames, n_fft), each one hop after the previous one."""
    parts = segments.reshape(*segments.shape[:2], OVERLAP, -1)  # (batch, frames, OVERLAP, hop)
    return torch.stack([F.pad(parts[:, :, place], (0, 0, place, OVERLAP - 1 - place)) for place in range(OVERLAP)]).sum(0).flatten(1)
