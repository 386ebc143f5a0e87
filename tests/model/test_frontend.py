"""The frontend against torchaudio, and against the physics of its frames."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchaudio

from hear_ssl.model.bands import corners, log_filters
from hear_ssl.model.frontend import LogMel
from hear_ssl.model.options import FrontendConfig


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


PITCH = FrontendConfig(layout="log", n_fft=4096, n_mels=128, f_min=40.0, log_offset=1e-8, mean=0.0, std=1.0)


def test_pitch_bands_peak_where_a_sine_lies_at_its_own_power() -> None:
    frontend, centres = LogMel(PITCH), corners(PITCH)[1:-1]
    time = torch.arange(16000, dtype=torch.float64) / 16000
    for band in (20, 45, 63, 75, 100, 127):
        amplitude = 0.1
        waveform = amplitude * torch.sin(2 * torch.pi * float(centres[band]) * time)
        power = frontend(waveform.float().unsqueeze(0))[0, :, 50].exp()  # (n_mels,)
        assert abs(int(power.argmax()) - band) <= 1
        assert 0.5 * amplitude**2 < float(power.max()) < 2.0 * amplitude**2


def test_pitch_bands_tell_low_semitones_apart_where_mel_bands_do_not() -> None:
    def peak(frontend: LogMel, frequency: float) -> int:
        waveform = torch.sin(2 * torch.pi * frequency * torch.arange(16000) / 16000)
        return int(frontend(waveform.unsqueeze(0))[0, :, 50].argmax())

    semitones = [110.0 * 2 ** (step / 12) for step in range(13)]
    assert len({peak(LogMel(PITCH), frequency) for frequency in semitones}) == 13
    assert len({peak(LogMel(FrontendConfig()), frequency) for frequency in semitones}) < 13


def test_high_pitch_bands_keep_a_click_short_and_centred() -> None:
    frontend = LogMel(PITCH, time_stride=4)
    waveform = torch.zeros(1, 16000)
    waveform[0, 640 * 10] = 1.0
    energy = frontend(waveform).exp()[0] - PITCH.log_offset  # (n_mels, frames)
    frames = torch.arange(energy.shape[1], dtype=torch.float64)
    for band, half_ms in ((5, 128.0), (127, 16.0)):
        seen = energy[band] > 1e-3 * energy[band].max()
        centre = float((energy[band].double() * frames).sum() / energy[band].double().sum())
        assert abs(centre - 41.5) < 0.1
        assert float(seen.sum()) * 10.0 <= 2 * half_ms + 20.0


def test_a_slice_of_pitch_frames_equals_the_same_frames_of_the_whole() -> None:
    frontend = LogMel(PITCH, time_stride=4)
    waveform = torch.randn(2, 20011, generator=torch.Generator().manual_seed(1)) * 0.1
    whole = frontend(waveform)
    for first, frames in ((0, 8), (40, 60), (100, 28)):
        torch.testing.assert_close(frontend(waveform, first, frames), whole[:, :, first : first + frames], rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [FrontendConfig(), PITCH], ids=["mel", "log"])
def test_a_batch_in_pieces_of_frames_equals_one_in_a_piece(config: FrontendConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = LogMel(config, time_stride=4)
    waveform = torch.randn(5, 20011, generator=torch.Generator().manual_seed(1)) * 0.1
    monkeypatch.setattr("hear_ssl.model.frontend.CACHED_SAMPLES", 10**9)
    whole = frontend(waveform)
    for samples in (1, 50_000, 700_000):  # a frame at once, frames of one clip, several clips
        monkeypatch.setattr("hear_ssl.model.frontend.CACHED_SAMPLES", samples)
        torch.testing.assert_close(frontend(waveform), whole, rtol=0, atol=1e-5)


def test_no_pitch_band_is_empty_and_impossible_ones_are_refused() -> None:
    for length, first_bin, filters in log_filters(PITCH):
        assert 0 < first_bin < first_bin + filters.shape[0] <= length // 2 + 1
        assert bool((filters.sum(0) >= 0.5).all())
    with pytest.raises(ValueError, match="n_fft is 3000"):
        LogMel(FrontendConfig(layout="log", n_fft=3000))
    with pytest.raises(ValueError, match="f_min is 0"):
        LogMel(FrontendConfig(layout="log", n_fft=4096, f_min=0.0))
