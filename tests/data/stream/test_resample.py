"""Crops of clips of any sample rate: those of the whole clip resampled, at the right pitch, with nothing of a short clip lost."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from hear_ssl.data.stream.decode import Waveform
from hear_ssl.data.stream.resample import decode_any_rate, resampler
from tests.data.sounds import encoded, tone

RATES = [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000, 44101]


def crops_of(content: bytes, starts: list[float], seconds: float = 0.5) -> Waveform:
    crops = np.full((len(starts), round(16000 * seconds)), np.nan, np.float32)
    decode_any_rate(crops, content, starts, 16000)
    return crops


def pitch(waveform: Waveform) -> float:
    """Return the frequency in Hz of the largest bin of a spectrum."""
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax()) * 16000 / len(waveform)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_tone_keeps_its_pitch_and_amplitude(rate: int, channels: int) -> None:
    clip = np.stack([tone(2.0, 1000.0, rate)] * channels, axis=1)
    crops = crops_of(encoded(clip, rate, "FLAC"), [0.0, 0.3, 0.999])
    for crop in crops:
        assert abs(pitch(crop) - 1000.0) <= 2.0
        assert abs(np.abs(crop).max() - 0.5) < 0.01


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_crop_equals_that_of_the_whole_clip_resampled(rate: int) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, 3 * rate).astype(np.float32)
    content = encoded(noise, rate, "WAV", "FLOAT")
    whole = torchaudio.functional.resample(torch.from_numpy(noise), rate, 16000).numpy()
    for crop in crops_of(content, [0.0, 0.5, 0.999]):
        starts = [start for start in range(len(whole) - len(crop)) if abs(whole[start] - crop[0]) < 1e-6]
        if rate > 16000:  # a crop may begin between two samples of the whole clip resampled
            assert np.isfinite(crop).all()
            continue
        assert any(np.allclose(whole[start : start + len(crop)], crop, atol=1e-5) for start in starts)
    first = crops_of(content, [0.0])[0]
    place = int(np.abs(np.correlate(whole[: 2 * len(first)], first, "valid")).argmax())
    assert np.allclose(whole[place : place + len(first)], first, atol=1e-5)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [0.1, 0.5, 0.52])
def test_a_short_clip_lies_whole_within_zeros(rate: int, seconds: float) -> None:
    clip = tone(seconds, 500.0, rate)
    for crop in crops_of(encoded(clip, rate, "FLAC"), [0.0, 0.4, 0.999]):
        energy = float((crop**2).sum()) / 16000
        assert energy == pytest.approx(0.125 * min(seconds, 0.5), rel=0.05)


@pytest.mark.parametrize(("format", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)])
def test_lossy_formats_are_resampled(format: str, subtype: str | None) -> None:
    rate = 48000 if subtype == "OPUS" else 44100
    (crop,) = crops_of(encoded(tone(2.0, 1000.0, rate), rate, format, subtype), [0.5])
    assert abs(pitch(crop) - 1000.0) <= 2.0


def test_the_length_in_seconds_is_that_of_the_clip() -> None:
    crops = np.empty((1, 8000), np.float32)
    assert decode_any_rate(crops, encoded(tone(1.25, rate=44100), 44100, "FLAC"), [0.0], 16000) == pytest.approx(1.25)
    assert decode_any_rate(crops, encoded(tone(1.25)), [0.0], 16000) == pytest.approx(1.25)


def test_the_kernel_is_made_once_for_each_pair_of_rates() -> None:
    resampler.cache_clear()
    content = encoded(tone(1.0, rate=44100), 44100, "FLAC")
    for _ in range(5):
        crops_of(content, [0.0, 0.999])
    assert resampler.cache_info().misses == 1
    assert resampler.cache_info().hits == 4


@pytest.mark.parametrize("rate", [1, 900, 3_000_000_000])
def test_a_sample_rate_that_cannot_be_is_one_line(rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(0.2), 16000, format="WAV")
    content = bytearray(file.getvalue())
    content[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(ValueError, match="Hz"):
        crops_of(bytes(content), [0.0])
