"""The frontend against torchaudio, and against the physics of its frames."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchaudio

from hear_ssl.runtime.frontend import LogMel
from hear_ssl.runtime.settings import FrontendConfig


@pytest.mark.parametrize("n_mels", [64, 128])
@pytest.mark.parametrize(("n_fft", "win_length"), [(1024, 1024), (1024, 400), (512, 400)])
def test_mel_power_equals_torchaudio_to_the_last_bit(n_fft: int, win_length: int, n_mels: int) -> None:
    config = FrontendConfig(n_fft=n_fft, win_length=win_length, n_mels=n_mels)
    waveform = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    oracle = torchaudio.transforms.MelSpectrogram(
        16000, n_fft, win_length, 160, config.f_min, config.f_max, n_mels=n_mels, power=2.0, center=True, pad_mode="constant"
    )
    ours = LogMel(config).mel_power(F.pad(waveform, (n_fft // 2, n_fft // 2)))
    assert torch.equal(ours, oracle(waveform))


def test_a_slice_of_frames_equals_the_same_frames_of_the_whole() -> None:
    frontend = LogMel(FrontendConfig(), time_stride=4)
    waveform = torch.randn(2, 20011, generator=torch.Generator().manual_seed(1))
    whole = frontend(waveform)
    assert whole.shape == (2, 64, 128)
    for first, frames in ((0, 8), (40, 60), (100, 28)):
        torch.testing.assert_close(frontend(waveform, first, frames), whole[:, :, first : first + frames], rtol=0, atol=1e-6)


def test_a_click_on_the_token_grid_is_seen_symmetrically() -> None:
    frontend = LogMel(FrontendConfig(), time_stride=4)
    waveform = torch.zeros(1, 16000)
    waveform[0, 640 * 10] = 1.0
    energy = frontend(waveform).exp().sum(1)[0]  # (frames,)
    frames = torch.arange(energy.numel(), dtype=torch.float64)
    background = energy.min()
    centre = ((energy - background).double() * frames).sum() / (energy - background).double().sum()
    assert abs(float(centre) - 41.5) < 0.02  # frames 40 to 43 make token 10


def test_silence_and_one_sample_are_finite() -> None:
    frontend = LogMel(FrontendConfig(), time_stride=4)
    for waveform in (torch.zeros(1, 1), torch.zeros(1, 5000), torch.ones(1, 1)):
        assert torch.isfinite(frontend(waveform)).all()


def test_impossible_bands_and_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="f_max is 9000"):
        LogMel(FrontendConfig(f_max=9000.0))
    with pytest.raises(ValueError, match="win_length is 2048"):
        LogMel(FrontendConfig(win_length=2048))
