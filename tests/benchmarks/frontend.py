"""Measure milliseconds of log features, compared with all frames and bins in one piece: python -m tests.benchmarks.frontend

Plain is torch.stft of the whole batch, the power of every bin, and a product with the filters: torchaudio's MelSpectrogram for mel
bands (`configs/base.yaml`), the same with the windows and filters of the pitch bands (`configs/reference.yaml`). One thread, CPU time,
measured alternately; medians of the rounds and the range of their ratio. --allocator configures glibc's allocator as training does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig
from hear_ssl.training.config import load_config
from hear_ssl.training.speed import keep_memory

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ((1, 4.0), (1, 10.0), (16, 1.0), (4, 4.0), (64, 1.28), (64, 2.08))  # clips, seconds


def plain(config: FrontendConfig, ours: LogMel) -> Callable[[Tensor], Tensor]:
    """Return a function from a padded waveform (batch, time) to band power, computed with all frames and bins in one piece."""
    if config.layout == "mel":
        options = {"n_mels": config.n_mels, "f_min": config.f_min, "f_max": config.f_max, "power": 2.0, "center": False}
        lengths = (config.sample_rate, config.n_fft, config.win_length, config.hop_length)
        spectrogram: Callable[[Tensor], Tensor] = torchaudio.transforms.MelSpectrogram(*lengths, **options)
        return spectrogram
    groups = []
    for length, first_bin in ours.groups:
        filters = getattr(ours, f"filters{length}")
        above = length // 2 + 1 - first_bin - filters.shape[0]
        groups.append((length, torch.hann_window(length), F.pad(filters, (0, 0, first_bin, above))))

    def power(padded: Tensor) -> Tensor:
        bands = []
        for length, window, filters in groups:
            margin = (config.n_fft - length) // 2
            inside = padded[:, margin : padded.shape[1] - margin]
            spectrum = torch.stft(inside, length, config.hop_length, window=window, center=False, return_complex=True)
            bands.append(((spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) @ filters).transpose(1, 2))
        return torch.cat(bands, 1)

    return power


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--allocator", action="store_true")
    arguments = parser.parse_args()
    if arguments.allocator:
        keep_memory()
    torch.set_num_threads(1)
    print("| bands | clips | plain, ms | ours, ms | ratio |\n" + "|---" * 5 + "|")
    for name in ("base", "reference"):
        config = load_config(ROOT / "configs" / f"{name}.yaml", []).frontend
        ours = LogMel(config)
        sides = (plain(config, ours), ours.mel_power if config.layout == "mel" else ours.pitch_power)
        for clips, seconds in SHAPES:
            padded = torch.randn(clips, round(seconds * config.sample_rate) + config.n_fft) * 0.1
            rounds = []
            for _ in range(arguments.rounds):
                times, found = [], []
                for side in sides:
                    begin = time.process_time()
                    found.append(side(padded))
                    times.append(1000.0 * (time.process_time() - begin))
                torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)
                rounds.append(times)
            ratios = [one / other for one, other in rounds]
            before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {config.n_mels} {config.layout} | {clips} x {seconds:g} s | {before:.1f} | {after:.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
